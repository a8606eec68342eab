"""Studies of a converted set for reports, with their true emboli."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from pe_unified.ct.converted_study import converted_study
from pe_unified.ct.study import CTStudy
from pe_unified.datasets import PESliceDataset
from pe_unified.inference.joining import Part, belong, join_parts
from pe_unified.inference.lesions import Lesion
from pe_unified.inference.slice_prediction import SlicePrediction
from pe_unified.registry import DATASETS


@dataclass(frozen=True, eq=False)
class WholeExam:
    """A study of a set with a known label.

    Attributes:
        positive: whether it shows embolism.
        study: its slices.
        patient: its patient.
        group: of patients who are not independent of each other; the patient if there is none.
        slices: records of the slices in the set, from feet to head.
    """

    positive: bool
    study: CTStudy
    patient: str
    group: str
    slices: Sequence[dict[str, Any]]

    def emboli(self) -> list[list[Part]] | None:
        """The true emboli, each as its parts on single slices, joined like lesions.

        None if a slice may have emboli with neither masks nor boxes known.
        """
        truth: list[SlicePrediction] = []
        for item in self.slices:
            pixels, boxes = np.empty(0, np.int32), np.empty((0, 4), np.float32)
            if item["masks"] is not None:
                masks = [coco_mask.decode(rle).astype(bool) for rle in item["masks"]]
                whole = np.any(masks, axis=0) if masks else np.zeros(0, dtype=bool)
                pixels = np.flatnonzero(whole).astype(np.int32)
            elif item["boxes"] is not None:
                boxes = item["boxes"]
            elif item["label"] != 0:
                return None
            one = np.ones(max(len(pixels), len(boxes)), np.float32)
            truth.append(
                SlicePrediction(
                    index=len(truth),
                    probability=None,
                    examined=True,
                    pixels=pixels,
                    pixel_probability=one[: len(pixels)],
                    boxes=boxes,
                    scores=one[: len(boxes)],
                )
            )
        return join_parts(truth, self.study.shape[1:])


def whole_exams(dataset: PESliceDataset) -> list[WholeExam]:
    """The studies of a set with a known label.

    Studies with unlabelled slices and no positive slice are left out, and so are studies with
    missing slices, where neighbours in the set are not neighbours in the body.

    Args:
        dataset: a set with every slice of its studies.
    """
    series: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for number in range(len(dataset)):
        item = dataset.get_data_info(number)
        series[item["patient_id"], item["study_uid"], item["series_uid"]].append(item)
    exams = []
    for (patient, *_), items in series.items():
        items.sort(key=lambda item: item["slice_index"])
        known = [item["label"] for item in items]
        gaps = np.diff([item["slice_index"] for item in items]) != 1
        if gaps.any() or (1 not in known and None in known):
            continue
        group = items[0]["group"] or patient
        exams.append(WholeExam(1 in known, converted_study(items), patient, group, items))
    return exams


def exams_of_split(dataset: Mapping[str, Any]) -> list[WholeExam]:
    """:func:`whole_exams` of a split, whatever slices and labels its config selects."""
    settings = {**dataset, "needs": (), "every": 1, "pipeline": []}
    return whole_exams(DATASETS.build(settings))


#: Smallest share of a lesion's mask inside emboli to count as finding one. Without it, a mask over
#: the whole slice, as from an untrained network, would find every embolus.
TRUE_SHARE = 0.1


def touching(
    lesions: Sequence[Lesion], emboli: Sequence[Sequence[Part]], shape: tuple[int, int]
) -> np.ndarray:
    """bool (lesions, emboli): whether a lesion finds an embolus, that is, touches it.

    The rules are those for parts of one lesion on a slice: masks share a pixel, a box contains
    enough of the mask, boxes overlap; lesions with only marks use their discs. A mask with less
    than :data:`TRUE_SHARE` inside emboli finds none.

    Args:
        lesions: lesions of a study.
        emboli: its true emboli, from :meth:`WholeExam.emboli`.
        shape: (rows, cols) of a slice.
    """
    found = np.zeros((len(lesions), len(emboli)), dtype=bool)
    truth = [part for embolus in emboli for part in embolus]
    by_masks = not any(part.is_box for part in truth)
    for row, lesion in enumerate(lesions):
        if by_masks and lesion.pixels and _share_within(lesion, truth) < TRUE_SHARE:
            continue
        own = _parts_of(lesion, shape[1])
        for column, embolus in enumerate(emboli):
            found[row, column] = any(
                one.index == other.index and belong(one, other, shape)
                for one in own
                for other in embolus
            )
    return found


def _share_within(lesion: Lesion, parts: Sequence[Part]) -> float:
    """Share of the lesion's mask inside the masks of these parts."""
    inside = sum(
        len(np.intersect1d(part.pixels, lesion.pixels[part.index]))
        for part in parts
        if part.index in lesion.pixels
    )
    return inside / sum(map(len, lesion.pixels.values()))


def _parts_of(lesion: Lesion, cols: int) -> list[Part]:
    masks = [(index, pixels) for index, pixels in lesion.pixels.items()]
    empty = np.empty(0, np.int32)
    boxes = [Part(index, empty, score, box, is_box=True) for index, box, score in lesion.boxes]
    if not masks and not boxes:
        masks = list(lesion.discs.items())
    return [_part(index, pixels, cols) for index, pixels in masks] + boxes


def _part(index: int, pixels: np.ndarray, cols: int) -> Part:
    down, along = np.divmod(pixels, cols)
    box = float(along.min()), float(down.min()), float(along.max()) + 1, float(down.max()) + 1
    return Part(index, pixels, 1.0, box, is_box=False)
