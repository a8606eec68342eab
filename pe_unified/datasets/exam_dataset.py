"""The data set of exams, as sequences of steps."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mmengine.dataset import BaseDataset

from pe_unified.ct.exam_labels import EXAM_TARGETS, exam_doubts, exam_targets
from pe_unified.datasets.exam_steps import spread, step_label
from pe_unified.datasets.feature_store import FeatureStore, stored_name
from pe_unified.datasets.masked_labels import Mode, hidden_labels
from pe_unified.datasets.slice_dataset import (
    DatasetError,
    Draw,
    in_series,
    parse_slice,
    read_annotations,
    seeded,
)
from pe_unified.datasets.sources import sources_of
from pe_unified.registry import DATASETS, TASK_UTILS, TRANSFORMS

Unit = Literal["exam", "step"]
Indeterminate = Literal["unknown", "positive", "leave_out"]
_POSITIVE = EXAM_TARGETS.index("positive_exam_for_pe")
#: What an exam says of each of its steps.
_OF_STEPS = ("rows", "step_labels", "step_ids", "z_mm", "planes")


@DATASETS.register_module()
class PEExamDataset(BaseDataset):
    """Exams of one converted data set, read from its COCO JSON.

    Args:
        ann_file: the split's JSON, relative to ``data_root``.
        data_root: the folder that a converter wrote.
        pipeline: transforms, from loading to packing.
        steps: config of the steps of an exam, such as
            :class:`~pe_unified.datasets.exam_steps.SliceSteps`; a feature store has its own.
        features: folder of a :class:`~pe_unified.datasets.feature_store.FeatureStore`, used instead
            of the slices.
        max_steps: largest number of steps per exam, taken at equal distances; None for all.
        unit: whether an item is an exam or a single step.
        needs: labels that must be known for an item: ``"exam"``, any label of the exam;
            ``"steps"``, the label of a slice.
        indeterminate: an exam marked as indeterminate has an unknown embolism label
            (``"unknown"``), counts as positive (``"positive"``), or is left out (``"leave_out"``).
        masked_label_portion: share of the known labels of steps hidden from training, 0 to 1, exact
            over the set (see :func:`~pe_unified.datasets.masked_labels.hidden_labels`).
        masked_label_mode: ``"even"``, single steps of every exam; ``"exams"``, all steps of some.
        masked_label_seed: seed for choosing the exams.
        every: keep every n-th exam, for quick tests.

    An item is the pipeline's output. A transform gets a dict with ``study_uid``, ``patient_id``,
    ``group``, ``targets`` (ten numbers in the order of EXAM_TARGETS, NaN where unknown),
    ``step_labels``, ``step_ids`` and ``z_mm`` of every step, ``planes`` (for every step, its planes
    as lists of paths with their weights; absent with a store), ``volumes`` (whether a step is a
    volume), ``steps`` (number of steps of the whole exam), ``rows`` (indices of the given steps
    among them), ``lung_box``, ``spacing_mm``, ``rng`` (one for the whole exam), and ``store``.

    Attributes:
        flow: ``file``; the number of ``exams`` in it; those ``left_out`` and ``notes`` on others,
            each with ``study_uid``, ``patient_id`` and ``reason``; the number ``kept``, and of
            these the numbers ``positive``, ``negative`` and ``undecided``.

    Raises:
        FileNotFoundError: no annotation file; names the converter command.
        DatasetError: no exam is left, or the file breaks the contract.
    """

    METAINFO = dict(classes=("embolus",))

    def __init__(
        self,
        ann_file: str,
        data_root: str,
        pipeline: Sequence[dict] = (),
        steps: Mapping[str, Any] | None = None,
        features: str | None = None,
        max_steps: int | None = None,
        unit: Unit = "exam",
        needs: Sequence[str] = (),
        indeterminate: Indeterminate = "unknown",
        masked_label_portion: float = 0.0,
        masked_label_mode: Mode = "even",
        masked_label_seed: int = 0,
        every: int = 1,
        **kwargs: Any,
    ) -> None:
        if masked_label_portion and kwargs.get("test_mode"):
            raise ValueError(
                "masked_label_portion is for training: what is tested keeps its labels"
            )
        self.store = FeatureStore(features) if features else None
        chosen = self.store.source.steps if self.store else steps or {"type": "SliceSteps"}
        self.steps = TASK_UTILS.build(dict(chosen))
        self.max_steps = max_steps
        self.unit, self.needs, self.every = unit, tuple(needs), every
        self.indeterminate: Indeterminate = indeterminate
        self._masking = (masked_label_portion, masked_label_mode, masked_label_seed)
        transforms = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
        super().__init__(ann_file=ann_file, data_root=data_root, pipeline=transforms, **kwargs)

    def load_data_list(self) -> list[dict]:
        path, coco = read_annotations(self.ann_file)
        root = Path(self.data_root)
        studies: dict[str, list[dict]] = defaultdict(list)
        for image in coco["images"]:
            studies[image["study_uid"]].append(parse_slice(image, (), root))
        listed = {entry["study_uid"] for entry in coco["exams"]}
        unlisted = [
            {"study_uid": study, "patient_id": slices[0]["patient_id"]}
            for study, slices in studies.items()
            if study not in listed
        ]
        self.flow = {"file": str(path), "exams": 0, "left_out": [], "notes": []}
        exams = [
            exam
            for entry in (*coco["exams"], *unlisted)
            if (exam := self._exam(entry, studies[entry["study_uid"]])) is not None
        ]
        in_steps = [self._in_steps(exam) for exam in exams[:: self.every]]
        # Of steps, not of slices: one unknown slice is enough that no chunk can be negative.
        hidden = hidden_labels([exam["step_labels"] for exam in in_steps], *self._masking)
        for exam, gone in zip(in_steps, hidden, strict=True):
            exam["step_labels"] = np.where(gone, np.nan, exam["step_labels"]).tolist()
        items = [item for exam in in_steps for item in self._items(exam)]
        used = {item["study_uid"] for item in items}
        for number, exam in enumerate(exams):
            if exam["study_uid"] not in used:
                passed = number % self.every
                reason = (
                    f"skipped by every={self.every}" if passed else "no label of a step is known"
                )
                self._note("left_out", exam["study_uid"], exam["patient_id"], reason)
        if not items:
            raise DatasetError(
                f"{path}: none of its {self.flow['exams']} exams can be used "
                f"(needs {', '.join(self.needs) or 'slices'}); left out: "
                f"{self._reasons() or 'none'}"
            )
        kept = [exam for exam in exams if exam["study_uid"] in used]
        self.flow |= {"kept": len(kept), **_classes(kept)}
        self.sources = sources_of(coco, [i for i in coco["images"] if i["study_uid"] in used])
        return items

    def _exam(self, entry: Mapping[str, Any], slices: list[dict]) -> dict[str, Any] | None:
        """One exam, or None if it is left out; the reason is in the flow."""
        study, patient = entry["study_uid"], entry["patient_id"]
        self.flow["exams"] += 1
        several = in_series(slices)
        if len(several) > 1:
            self._note(
                "notes", study, patient, f"{len(several)} series, of which the longest is used"
            )
        slices = max(several, key=len, default=[])
        rule = "positive" if self.indeterminate == "positive" else "unknown"
        targets = exam_targets(entry, rule)
        reason = ""
        if not slices:
            reason = "no slices"
        elif self.indeterminate == "leave_out" and entry.get("indeterminate") == 1:
            reason = "indeterminate"
        elif "exam" in self.needs and np.isnan(targets).all():
            reason = "no label of the exam is known"
        elif "steps" in self.needs and all(each["label"] is None for each in slices):
            reason = "no label of a slice is known"
        if reason:
            self._note("left_out", study, patient, reason)
            return None
        positives = sum(each["label"] == 1 for each in slices)
        for doubt in exam_doubts(entry, positives, len(slices)):
            self._note("notes", study, patient, doubt)
        return {
            **{key: slices[0][key] for key in ("patient_id", "group", "lung_box", "spacing_mm")},
            "study_uid": study,
            "stored": stored_name(study, slices),
            "img_path": str(Path(slices[0]["img_path"]).parent),
            "targets": targets,
            "slices": slices,
        }

    def _note(self, kind: str, study: str, patient: str, text: str) -> None:
        self.flow[kind].append({"study_uid": study, "patient_id": patient, "reason": text})

    def _reasons(self) -> str:
        counts: dict[str, int] = defaultdict(int)
        for each in self.flow["left_out"]:
            counts[each["reason"]] += 1
        return "; ".join(f"{count}: {reason}" for reason, count in counts.items())

    def _in_steps(self, exam: dict[str, Any]) -> dict[str, Any]:
        """An exam with what transforms need to know of its steps, instead of its slices."""
        slices = exam.pop("slices")
        labels = [each["label"] for each in slices]
        steps = self.steps.steps_of(slices)
        rows = spread(len(steps), self.max_steps)
        given = [steps[row] for row in rows]
        middles = [slices[step.middle] for step in given]
        seen: dict[str, Any] = {
            "volumes": self.steps.volumes,
            "steps": len(steps),
            "rows": rows,
            "step_labels": [step_label(step, labels) for step in given],
            "step_ids": [each["sop_uid"] for each in middles],
            "z_mm": [float("nan") if each["z_mm"] is None else each["z_mm"] for each in middles],
        }
        if self.store is None:  # with features, paths would take most of the set's memory
            seen["planes"] = [
                [
                    [(slices[index]["img_path"], share) for index, share in plane]
                    for plane in step.planes
                ]
                for step in given
            ]
        return {**exam, **seen}

    def _items(self, exam: dict[str, Any]) -> list[dict[str, Any]]:
        if self.unit == "exam":
            return [exam]
        of_steps = [key for key in _OF_STEPS if key in exam]
        items = [
            {**exam, **{key: exam[key][place : place + 1] for key in of_steps}}
            for place in range(len(exam["rows"]))
        ]
        known = "steps" in self.needs
        return [item for item in items if not known or not np.isnan(item["step_labels"][0])]

    def labels(self) -> np.ndarray:
        """float (n,): whether an exam is positive, or a step shows embolism; NaN where unknown."""
        infos = (self.get_data_info(index) for index in range(len(self)))
        if self.unit == "exam":
            return np.array([info["targets"][_POSITIVE] for info in infos])
        return np.array([info["step_labels"][0] for info in infos])

    def patients(self) -> list[str]:
        """The patient of every item, in order."""
        return [self.get_data_info(index)["patient_id"] for index in range(len(self))]

    def __getitem__(self, draw: "int | Draw") -> dict:
        item, rng = seeded(self, draw)
        return self.pipeline({**item, "rng": rng, "store": self.store})


def _classes(exams: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    positive = np.array([exam["targets"][_POSITIVE] for exam in exams])
    return {
        "positive": int((positive == 1).sum()),
        "negative": int((positive == 0).sum()),
        "undecided": int(np.isnan(positive).sum()),
    }
