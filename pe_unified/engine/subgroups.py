"""Test results by subgroup: slice spacing, opacification, size of the emboli."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from pe_unified.cards.card import BY_CONTRAST, BY_SIZE, BY_SPACING
from pe_unified.datasets import PESliceDataset
from pe_unified.datasets.slice_dataset import LABEL_KINDS
from pe_unified.engine.evaluate import Evaluation
from pe_unified.evaluation.intervals import Estimate, estimate
from pe_unified.evaluation.segmentation import SegTable
from pe_unified.evaluation.slices import SliceTable
from pe_unified.evaluation.subgroups import of_patients, of_slices
from pe_unified.inference.converted import whole_exams
from pe_unified.inference.quality import POOR_CONTRAST_HU, blood_hu
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey
from pe_unified.progress import track
from pe_unified.registry import DATASETS

#: Upper ends of the classes, mm; the last class is open.
_SPACING_MM, _DIAMETER_MM = (1.0, 2.0, 3.0), (4.0, 8.0)


def subgroups_of(evaluation: Evaluation, dataset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Metrics of a test by subgroups, with intervals over their patients.

    For the size of emboli, classification also uses all slices without embolus; Dice uses none.

    Args:
        evaluation: of the test split, with its tables.
        dataset: config of that split.

    Returns:
        One entry per subgroup: ``by``, ``group``, ``patients``, and ``metrics``, each with
        ``value``, ``low`` and ``high``. Subgroups unknown in the split have no entry.
    """
    known = ("ann_file", "data_root", "every", "label", "lung_from", "neighbours")
    settings = {key: dataset[key] for key in known if key in dataset}
    settings["needs"] = [kind for kind in dataset.get("needs", ()) if kind in LABEL_KINDS]
    slices = DATASETS.build({**settings, "type": "PESliceDataset", "test_mode": True})
    found = []
    tested = {name for table in evaluation.tables.values() for name in table.patients}
    for by, group_of in ((BY_SPACING, _by_spacing(slices)), (BY_CONTRAST, _by_contrast(slices))):
        for group in dict.fromkeys(sorted(group_of.values())):
            chosen = {patient for patient in tested if group_of.get(patient) == group}
            metrics = _of_patients(evaluation, chosen)
            if metrics:
                found.append(_entry(by, group[1], len(chosen), metrics))
    return [*found, *_by_size(evaluation, slices)]


def _of_patients(evaluation: Evaluation, chosen: set[str]) -> dict[str, Estimate]:
    metrics = {}
    for prefix, table in evaluation.tables.items():
        threshold = evaluation.thresholds.get(f"{prefix}/threshold")
        statistic: Callable[..., Any] | None = getattr(table, "statistic", None)
        if statistic is None or threshold is None:
            continue
        own = of_patients(table, statistic(threshold), chosen) or {}
        metrics |= {f"{prefix}/{name}": each for name, each in own.items()}
    return metrics


def _entry(by: str, group: str, patients: int, metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    told = {
        key: {"value": each.value, "low": each.low, "high": each.high}
        for key, each in metrics.items()
    }
    return {"by": by, "group": group, "patients": patients, "metrics": told}


def _class(value: float, ends: Sequence[float]) -> tuple[int, str]:
    """Number and name of the class of a value."""
    place = int(np.searchsorted(ends, value))
    if place == 0:
        return place, f"up to {ends[0]:g} mm"
    if place == len(ends):
        return place, f"over {ends[-1]:g} mm"
    return place, f"{ends[place - 1]:g} to {ends[place]:g} mm"


def _by_spacing(slices: PESliceDataset) -> dict[str, tuple[int, str]]:
    """By patient, the class of the median distance between slices."""
    steps: dict[str, list[float]] = defaultdict(list)
    for item in _items(slices):
        step = (item["spacing_mm"] or [None] * 3)[2]
        if step is not None:
            steps[item["patient_id"]].append(step)
    return {patient: _class(float(np.median(own)), _SPACING_MM) for patient, own in steps.items()}


def _by_contrast(slices: PESliceDataset) -> dict[str, tuple[int, str]]:
    """By patient, the class of the attenuation of blood in heart and great vessels."""
    measured: dict[str, list[float]] = defaultdict(list)
    for exam in track(whole_exams(slices), "measuring opacification"):
        if None in exam.study.spacing_mm:
            continue
        first_look = survey(SliceReader(exam.study))
        value = None if first_look.lungs is None else blood_hu(first_look)
        if value is not None:
            measured[exam.patient].append(value)
    names = f"below {POOR_CONTRAST_HU:g} HU", f"{POOR_CONTRAST_HU:g} HU and more"
    places = {each: int(min(own) >= POOR_CONTRAST_HU) for each, own in measured.items()}
    return {patient: (place, names[place]) for patient, place in places.items()}


def _by_size(evaluation: Evaluation, slices: PESliceDataset) -> Iterator[dict[str, Any]]:
    """Slices by the largest embolus on them, where masks give its size."""
    items = list(_items(slices))
    sizes = np.array([_diameter_mm(item) for item in items])
    for place in range(len(_DIAMETER_MM) + 1):
        metrics: dict[str, Estimate] = {}
        patients: set[str] = set()
        name = ""
        for prefix in ("cls", "seg"):
            table = evaluation.tables.get(prefix)
            label = "label" if prefix == "cls" else "masks"
            known = [item[label] is not None for item in items]
            own = sizes[known]
            owners = [item["patient_id"] for item in items if item[label] is not None]
            if not isinstance(table, SliceTable | SegTable) or owners != _owners(table):
                continue
            classes = [_class(size, _DIAMETER_MM) if size > 0 else (-1, "") for size in own]
            here = np.array([number == place for number, _ in classes])
            if not here.any():
                continue
            name = next(text for number, text in classes if number == place)
            patients |= {table.patients[row] for row in table.patient[here]}
            part = of_slices(table, here | (own == 0) if prefix == "cls" else here)
            threshold = evaluation.thresholds[f"{prefix}/threshold"]
            measured = estimate(part.statistic(threshold), part.units)
            metrics |= {f"{prefix}/{key}": each for key, each in measured.items()}
        if metrics:
            yield _entry(BY_SIZE, name, len(patients), metrics)


def _owners(table: SliceTable | SegTable) -> list[str]:
    """The patient of every row."""
    return [table.patients[row] for row in table.patient]


def _diameter_mm(item: Mapping[str, Any]) -> float:
    """Diameter of a circle with the largest mask's area; 0 without embolus, NaN if unknown."""
    row, col, _ = item["spacing_mm"] or (None, None, None)
    if item["label"] == 0:
        return 0.0
    if not item["masks"] or row is None or col is None:
        return float("nan")
    area = max(float(each) for each in coco_mask.area(item["masks"])) * row * col
    return 2 * float(np.sqrt(area / np.pi))


def _items(slices: PESliceDataset) -> Iterator[dict[str, Any]]:
    return (slices.get_data_info(number) for number in range(len(slices)))
