"""Heat-map figures of a model's predictions for patients of a converted set."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from pycocotools import mask as coco_mask

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.ct.hu import read_slice_png
from pe_unified.datasets import LoadCTSlice, LoadExamSlices, PEExamDataset, PESliceDataset
from pe_unified.datasets.exam_steps import spread
from pe_unified.datasets.slice_dataset import parse_slice, read_annotations
from pe_unified.evaluation.figures import HeatView, SliceView, heat_figure
from pe_unified.evaluation.figures.exams import label_title
from pe_unified.inference.explain import ExamExplainer, SliceExplainer, leading
from pe_unified.inference.stored_model import read_model, require_kind, usable_device
from pe_unified.models.cam import CamError
from pe_unified.models.exam_model import PEExam
from pe_unified.models.slice_model import PEUnified
from pe_unified.options import BATCH_SIZE
from pe_unified.paths import require_apart
from pe_unified.precision import fastest_precision
from pe_unified.progress import track

_CAVEAT = "Grad-CAM: shows what raised the score, not necessarily where an embolus is"
#: A figure's name, title and slices.
Picture = tuple[str, str, list[HeatView]]


def explain_set(
    checkpoint: str | Path,
    data_root: Path,
    out: Path,
    split: str = "test",
    patients: int = 6,
    slices: int = 4,
    level: int = -1,
    label: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    trust: bool = False,
) -> list[Path]:
    """Write one figure per patient or exam: slices with heat maps of the model's prediction.

    For a slice model these are the slices most likely to show embolism; for an exam model see
    :meth:`~pe_unified.inference.explain.ExamExplainer.explain`.

    Args:
        checkpoint: a slice model with classification, or an exam model with an encoder.
        data_root: a converted set.
        out: folder for the figures.
        split: split of the set.
        patients: largest number of patients, spread over the split.
        slices: largest number of slices per figure.
        level, label: see :class:`~pe_unified.inference.explain.ExamExplainer`.
        device: ``"cpu"``, ``"cuda"``...; by default the GPU if there is one.
        precision: ``"bf16"`` or ``"fp32"``; by default bf16 if the device supports it.
        trust: see :func:`~pe_unified.inference.stored_model.read_model`.

    Returns:
        The written files.

    Raises:
        UserError: the model, level, label, device or set cannot be used.
    """
    require_apart(out, data_root)
    stored = read_model(Path(checkpoint), torch.nn.Module, trust)
    place = usable_device(device)
    model: Any = stored.model.to(place)
    precision = precision or fastest_precision(place)
    settings: dict[str, Any] = dict(
        ann_file=f"annotations/{split}.json", data_root=str(data_root), test_mode=True
    )
    explainer: SliceExplainer | ExamExplainer
    if isinstance(model, PEExam):
        explainer = ExamExplainer(model, level, label, precision)
        settings |= {name: stored.dataset.get(name) for name in ("steps", "max_steps")}
        exams = PEExamDataset(pipeline=[LoadExamSlices(), *stored.transforms], **settings)
        pictures = _of_exams(explainer, exams, patients, slices)
    else:
        require_kind(checkpoint, model, PEUnified)
        if label is not None:
            raise CamError("a slice model does not predict labels of an exam; leave --label out")
        explainer = SliceExplainer(model, level, precision)
        settings["neighbours"] = int(stored.dataset.get("neighbours", 0))
        dataset = PESliceDataset(pipeline=[LoadCTSlice(), *stored.transforms], **settings)
        pictures = _of_slices(explainer, dataset, patients, slices)
    note = f"{_CAVEAT} (stride {explainer.stride})"
    trained = stored.lineage["training_notice"]
    note = f"Model {trained}. {note}" if trained else note
    written = []
    for name, title, views in pictures:
        written.append(out / f"{name}.png")
        heat_figure(views, written[-1], title, note=note)
    return written


def _of_slices(
    explainer: SliceExplainer, dataset: PESliceDataset, patients: int, count: int
) -> Iterator[Picture]:
    for patient, numbers in track(_chosen(dataset.patients(), patients), "explaining patients"):
        folder = Path(dataset.get_data_info(numbers[0])["img_path"]).parent.name
        studies: dict[str | None, list[int]] = defaultdict(list)
        for number in numbers:
            studies[dataset.get_data_info(number)["study_uid"]].append(number)
        for which, own in enumerate(studies.values(), start=1):
            parts = [own[start : start + BATCH_SIZE] for start in range(0, len(own), BATCH_SIZE)]
            found = [explainer.probabilities([dataset[each] for each in part]) for part in parts]
            probability = torch.cat(found)
            infos = [dataset.get_data_info(number) for number in own]
            z_mm = [math.nan if each["z_mm"] is None else each["z_mm"] for each in infos]
            order = leading(probability, z_mm, count)
            packed = [dataset[own[place]] for place in order]
            views = [
                _view(
                    infos[place],
                    each["data_samples"],
                    heat,
                    explainer.stride,
                    probability=float(probability[place]),
                )
                for place, each, heat in zip(order, packed, explainer.heat(packed).numpy())
            ]
            name = f"{folder}_exam{which}" if len(studies) > 1 else folder
            yield name, f"{patient}: slices most likely to show embolism", views


def _of_exams(
    explainer: ExamExplainer, dataset: PEExamDataset, patients: int, count: int
) -> Iterator[Picture]:
    chosen = _chosen(dataset.patients(), patients)
    stored = _stored_slices(dataset, {patient for patient, _ in chosen})
    for patient, own in track(chosen, "explaining patients"):
        folder = Path(dataset.get_data_info(own[0])["img_path"]).name
        for which, number in enumerate(own, start=1):
            packed, exam = dataset[number], dataset.get_data_info(number)
            found = explainer.explain(packed, count)
            views = [
                _view(
                    stored[_path_of(exam["planes"][step])],
                    packed["data_samples"],
                    heat,
                    explainer.stride,
                    probability=_at(found.probability, step),
                    weight=_attention(found.attention, step),
                )
                for step, heat in zip(found.steps, found.heat.numpy())
            ]
            name = f"{folder}_exam{which}" if len(own) > 1 else folder
            yield name, f"{patient}: {_asked(explainer.label, found.answer, exam)}", views


def _chosen(patients: Sequence[str], most: int) -> list[tuple[str, list[int]]]:
    """Some patients, spread over all, with the indices of their items."""
    items: dict[str, list[int]] = defaultdict(list)
    for number, patient in enumerate(patients):
        items[patient].append(number)
    every = list(items.items())
    return [every[place] for place in spread(len(every), most)]


def _stored_slices(dataset: PEExamDataset, patients: set[str]) -> dict[str, dict[str, Any]]:
    """The records of the slices of these patients, including masks, by file."""
    _, coco = read_annotations(dataset.ann_file)
    annotations = defaultdict(list)
    for annotation in coco["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    slices = (
        parse_slice(image, annotations[image["id"]], Path(dataset.data_root))
        for image in coco["images"]
        if image["patient_id"] in patients
    )
    return {each["img_path"]: each for each in slices}


def _path_of(planes: Sequence[Sequence[tuple[str, float]]]) -> str:
    """The slice nearest to the middle plane of a step."""
    return max(planes[len(planes) // 2], key=lambda part: part[1])[0]


def _view(
    info: Mapping[str, Any],
    sample: BaseDataElement,
    heat: np.ndarray,
    stride: int,
    probability: float | None,
    weight: str = "",
) -> HeatView:
    x0, y0, _, _ = sample.crop_box
    rows, cols = heat.shape
    scale_x, scale_y = sample.scale_factor
    wide, high = cols * stride / scale_x, rows * stride / scale_y
    mask = None
    if info["masks"] is not None:
        mask = np.zeros((info["height"], info["width"]), dtype=bool)
        for rle in info["masks"]:
            mask |= coco_mask.decode(rle).astype(bool)
    view = SliceView(
        hu=read_slice_png(info["img_path"]),
        patient=info["patient_id"],
        slice_index=info["slice_index"],
        truth_mask=mask,
        label=None if info["label"] is None else bool(info["label"]),
        probability=probability,
        region=sample.crop_box,
    )
    return HeatView(view, heat, (x0, y0, x0 + wide, y0 + high), weight)


def _at(values: torch.Tensor | None, step: int) -> float | None:
    return None if values is None else float(values[step])


def _attention(attention: torch.Tensor | None, step: int) -> str:
    """A step's attention, and its ratio to an even share."""
    if attention is None:
        return ""
    share = float(attention[step])
    return f"attention {100 * share:.1f} % ({share * len(attention):.1f} x even)"


def _asked(label: str, answer: float | None, exam: Mapping[str, Any]) -> str:
    """The label, its probability and its true value."""
    if answer is None:
        return "steps most likely to show embolism"
    known = exam["targets"][EXAM_TARGETS.index(label)]
    truth = "label unknown" if np.isnan(known) else f"labelled {'yes' if known else 'no'}"
    return f"{label_title(label).lower()}, predicted {answer:.2f}, {truth}"
