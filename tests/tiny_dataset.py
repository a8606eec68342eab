"""A converted data set of a few small slices, written in seconds, for tests of what reads one."""

import json
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from pe_unified.ct.hu import HU_OFFSET, write_slice_png

SPLITS = {"train": 4, "val": 2, "test": 3}
ALL_KNOWN = ["slice", "boxes", "masks"]


def write_tiny_dataset(
    root: Path, size: int = 64, slices: int = 6, seed: int = 0, splits: dict | None = None
) -> Path:
    """Bright vessels on soft tissue; in every second slice one holds a darker embolus."""
    rng = np.random.default_rng(seed)
    (root / "annotations").mkdir(parents=True)
    patient = 0
    for split, patients in (splits or SPLITS).items():
        images, annotations = [], []
        for _ in range(patients):
            name = f"PAT{patient:03d}"
            patient += 1
            (root / "images" / name).mkdir(parents=True)
            for index in range(slices):
                hu, instances = _paint(rng, size, positive=index % 2 == 1)
                file_name = f"images/{name}/{index:04d}.png"
                write_slice_png(root / file_name, hu)
                image_id = len(images) + 1
                images.append(_image(image_id, file_name, name, index, size, bool(instances.any())))
                annotations += _annotations(image_id, len(annotations) + 1, instances)
        coco = {
            "info": {"description": "tiny test set", "hu_offset": HU_OFFSET, "split_seed": 0},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "embolus", "supercategory": "pulmonary embolism"}],
            "exams": [],
        }
        (root / "annotations" / f"{split}.json").write_text(json.dumps(coco))
    return root


def _paint(rng: np.random.Generator, size: int, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    hu = rng.normal(-700, 30, (size, size)).astype(np.float32)
    instances = np.zeros((size, size), dtype=np.uint8)
    for number in range(1, 4):
        centre = tuple(int(v) for v in rng.integers(size // 4, 3 * size // 4, 2))
        cv2.circle(hu, centre, size // 10, 300, -1)
        if positive and number == 3:
            cv2.circle(hu, centre, size // 14, 60, -1)
            cv2.circle(instances, centre, size // 14, 1, -1)
    return np.rint(hu).astype(np.int16), instances


def _image(
    image_id: int, file_name: str, patient: str, index: int, size: int, positive: bool
) -> dict:
    return {
        "id": image_id,
        "file_name": file_name,
        "width": size,
        "height": size,
        "patient_id": patient,
        "study_uid": f"1.2.{patient[3:]}",
        "series_uid": f"1.2.{patient[3:]}.1",
        "sop_uid": f"1.2.{patient[3:]}.1.{index}",
        "slice_index": index,
        "z_mm": float(index),
        "spacing_mm": [1.5, 1.5, 1.0],
        "pe_present": int(positive),
        "labels_known": ALL_KNOWN,
        "lung_box": [size // 8, size // 8, 3 * size // 4, 3 * size // 4],
    }


def _annotations(image_id: int, first_id: int, instances: np.ndarray) -> list[dict]:
    found = []
    for number in range(1, int(instances.max()) + 1):
        rle = coco_mask.encode(np.asfortranarray(instances == number))
        found.append(
            {
                "id": first_id + number - 1,
                "image_id": image_id,
                "category_id": 1,
                "bbox": coco_mask.toBbox(rle).tolist(),
                "area": int(coco_mask.area(rle)),
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                "iscrowd": 0,
            }
        )
    return found
