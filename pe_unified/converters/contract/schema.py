"""The COCO JSON of a converted set: its fields, and masks as annotations.

An entry of ``images[]`` may have a ``group``. Patients of one group (painted on the same real
anatomy, or given by ``--groups``) are in the same split, also in a merged set. It is absent or null
if a patient is its own group; ``conversion_report.json`` lists it with the patient.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle_tools

from pe_unified.ct.exam_labels import EXAM_LABELS, INFORMATIONAL
from pe_unified.ct.hu import HU_OFFSET

#: Raised whenever the same input would give different output, so that old records are redone.
CONVERTER_VERSION = "1.7"

CATEGORY_ID = 1
CATEGORIES = [{"id": CATEGORY_ID, "name": "embolus", "supercategory": "pulmonary embolism"}]

ALL_LABELS = ("slice", "boxes", "masks")


def annotations_of_mask(mask: np.ndarray, instances: bool = False) -> list[dict[str, Any]]:
    """One annotation per 8-connected component.

    Args:
        mask: (rows, cols), whole numbers; 0 is background.
        instances: each value is a separate instance: touching ones are kept apart, and
            ``instance_id`` is set. Otherwise all values above 0 are treated as the same.

    Returns:
        Annotations without ``id`` and ``image_id``, in order of instance, then of the first
        pixel in row-major order.
    """
    if not (mask > 0).any():
        return []
    if not instances:
        return _components((mask > 0).astype(np.uint8), {})
    return [
        annotation
        for value in np.unique(mask)
        if value
        for annotation in _components((mask == value).astype(np.uint8), {"instance_id": int(value)})
    ]


def crop_to_mask(mask: np.ndarray, margin: int = 0) -> tuple[int, int, np.ndarray]:
    """The window around a non-empty mask (rows, cols): top, left, the contiguous part."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = max(0, int(rows[0]) - margin), max(0, int(cols[0]) - margin)
    window = mask[top : int(rows[-1]) + 1 + margin, left : int(cols[-1]) + 1 + margin]
    return top, left, np.ascontiguousarray(window)


def _components(binary: np.ndarray, extra: dict[str, Any]) -> list[dict[str, Any]]:
    # Emboli are small: label only the part of the slice that holds them.
    top, left, part_of_slice = crop_to_mask(binary)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(part_of_slice, connectivity=8)
    annotations = []
    for part in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[part])
        own = parts[y : y + height, x : x + width] == part
        x, y = x + left, y + top
        canvas = np.zeros(binary.shape, dtype=np.uint8, order="F")
        canvas[y : y + height, x : x + width] = own
        annotations.append(
            {
                "category_id": CATEGORY_ID,
                "bbox": [x, y, width, height],
                "area": area,
                "segmentation": encode_mask(canvas),
                "iscrowd": 0,
                **extra,
            }
        )
    return annotations


def annotation_of_box(x: float, y: float, width: float, height: float, **extra: Any) -> dict:
    """A box without a mask, and without ``id`` and ``image_id``."""
    return {
        "category_id": CATEGORY_ID,
        "bbox": [x, y, width, height],
        "area": width * height,
        "segmentation": [],
        "iscrowd": 0,
        **extra,
    }


def box_within(
    box: Sequence[float], size: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """The part of a box (x, y, width, height) inside a slice of (rows, cols); None if empty."""
    x, y, width, height = box
    rows, cols = size
    left, top = max(0, x), max(0, y)
    right, bottom = min(cols, x + width), min(rows, y + height)
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A binary mask (rows, cols) as COCO's compressed run lengths, ``counts`` a string."""
    code = rle_tools.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def decode_mask(segmentation: Mapping[str, Any]) -> np.ndarray:
    """COCO's compressed run lengths as a binary mask, uint8 (rows, cols)."""
    return rle_tools.decode(dict(segmentation))


def union_mask(annotations: Iterable[Mapping[str, Any]]) -> np.ndarray | None:
    """All masks of a slice combined, uint8 (rows, cols); None without masks."""
    codes = [dict(item["segmentation"]) for item in annotations if item["segmentation"]]
    return rle_tools.decode(rle_tools.merge(codes)) if codes else None


def exam_entry(
    study_uid: str, patient_id: str, labels: Mapping[str, int | None] | None = None
) -> dict[str, Any]:
    """One entry of ``exams[]``; labels that are not given are null."""
    labels = labels or {}
    return {
        "study_uid": study_uid,
        "patient_id": patient_id,
        **{name: labels.get(name) for name in EXAM_LABELS},
    }


def exam_labels_from_masks(has_pe: bool) -> dict[str, int | None]:
    """The exam labels that follow from complete masks.

    An exam with an embolus is neither negative nor indeterminate. One without is negative, and
    all labels that describe an embolism are 0. Sides and ratios of a positive exam stay unknown.
    """
    if has_pe:
        return {"negative_exam_for_pe": 0, "indeterminate": 0}
    labels: dict[str, int | None] = {name: 0 for name in EXAM_LABELS if name not in INFORMATIONAL}
    labels["negative_exam_for_pe"] = 1
    return labels


def info_entry(
    *, description: str, source: str, licence: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """``info`` of a split file. It does not depend on when or where the run took place."""
    return {
        "description": description,
        "source": source,
        "licence": licence,
        "converter_version": CONVERTER_VERSION,
        "hu_offset": HU_OFFSET,
        **options,
    }


def folder_name(patient_id: str) -> str:
    """A folder name for a patient's identifier."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", patient_id).lstrip(".")
    return name or "_"


def own_folder(patient_id: str, taken: set[str]) -> str:
    """A folder name for a patient that is not in ``taken``, to which it is added."""
    folder = folder_name(patient_id)
    if folder in taken or folder != patient_id:
        digest = sha256(patient_id.encode(errors="surrogateescape")).hexdigest()
        folder = f"{folder}-{digest[:6]}"
    taken.add(folder)
    return folder


def rounded(values: Sequence[float | None], digits: int = 4) -> list[float | None]:
    """Millimetres as they are stored."""
    return [None if value is None else round(float(value), digits) for value in values]
