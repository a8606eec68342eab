"""A converted set of small exams with labels of the whole, written in a second.

The right lung holds an embolus (a dark disc in a bright vessel) in every second exam, in its
middle slices, and in every fourth the left lung does.
"""

import json
from pathlib import Path

import cv2
import numpy as np

from pe_unified.converters.contract.schema import exam_entry
from pe_unified.ct.exam_labels import EXAM_LABELS
from pe_unified.ct.hu import HU_OFFSET, write_slice_png

SPLITS = {"train": 8, "val": 4, "test": 4}
STEP_MM = 2.5


def exam_labels(number: int) -> dict[str, int]:
    """All labels of an exam: positive where odd."""
    on = {"negative_exam_for_pe"}
    if number % 2:
        side = "leftsided_pe" if number % 4 == 3 else "rightsided_pe"
        on = {side, "rv_lv_ratio_lt_1" if number % 3 else "rv_lv_ratio_gte_1"}
    return {name: int(name in on) for name in EXAM_LABELS}


def write_tiny_exams(
    root: Path, size: int = 48, slices: int = 12, splits: dict[str, int] | None = None
) -> Path:
    """Lungs lie in all slices but the outer two on each side."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    number = 0
    for split, exams in (splits or SPLITS).items():
        images, entries = [], []
        for _ in range(exams):
            labels = exam_labels(number)
            name = f"PAT{number:03d}"
            (root / "images" / name).mkdir(parents=True)
            for index in range(slices):
                positive = bool(number % 2) and slices // 3 <= index < 2 * slices // 3
                hu = _paint(rng, size, positive, left=bool(labels["leftsided_pe"]))
                file_name = f"images/{name}/{index:04d}.png"
                write_slice_png(root / file_name, hu)
                lung = 0.0 if index < 2 or index >= slices - 2 else 0.3
                images.append(_image(len(images) + 1, file_name, name, index, size, positive, lung))
            entries.append(exam_entry(f"1.2.{number}", name, labels))
            number += 1
        coco = {
            "info": {"description": "tiny exams", "hu_offset": HU_OFFSET, "split_seed": 0},
            "images": images,
            "annotations": [],
            "categories": [{"id": 1, "name": "embolus", "supercategory": "pulmonary embolism"}],
            "exams": entries,
        }
        (root / "annotations" / f"{split}.json").write_text(json.dumps(coco))
    return root


def _paint(rng: np.random.Generator, size: int, positive: bool, left: bool) -> np.ndarray:
    hu = rng.normal(-700, 30, (size, size)).astype(np.float32)
    for side in (1, 3):  # the patient's right is on the left of the picture
        centre = (side * size // 4, size // 2)
        cv2.circle(hu, centre, size // 7, 300, -1)
        if positive and left == (side == 3):
            cv2.circle(hu, centre, size // 10, 40, -1)
    return np.rint(hu).astype(np.int16)


def _image(
    image_id: int, file_name: str, patient: str, index: int, size: int, positive: bool, lung: float
) -> dict:
    study = f"1.2.{int(patient[3:])}"
    return {
        "id": image_id,
        "file_name": file_name,
        "width": size,
        "height": size,
        "patient_id": patient,
        "study_uid": study,
        "series_uid": f"{study}.1",
        "sop_uid": f"{study}.1.{index}",
        "slice_index": index,
        "z_mm": index * STEP_MM,
        "spacing_mm": [1.5, 1.5, STEP_MM],
        "pe_present": int(positive),
        "labels_known": ["slice"],
        "lung_box": [2, 2, size - 4, size - 4],
        "lung_share": lung,
    }


def change(path: Path, split: str, edit) -> None:
    """Let ``edit`` change what the JSON of a split holds."""
    file = path / "annotations" / f"{split}.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
