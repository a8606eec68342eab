"""A set of slices with round vessels in lung, bone beside, and emboli in every second one."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np
from tiny_dataset import ALL_KNOWN, _annotations, _image

from pe_unified.ct.hu import HU_OFFSET, write_slice_png

SIDE, SLICES = 99, 12
#: HU of a patient's blood with contrast medium, by slice; emboli have 50, blood without it 40.
BLOOD = [250 + 20 * index for index in range(SLICES)]
#: Centre (x, y) and radius, pixels.
VESSELS = [((30, 30), 20), ((72, 25), 9), ((25, 75), 9), ((72, 72), 9)]


def paint(rng: np.random.Generator, index: int) -> tuple[np.ndarray, np.ndarray]:
    """A wide and three narrow vessels in lung; in every second slice an embolus in a narrow one."""
    hu = rng.normal(-800, 10, (SIDE, SIDE)).astype(np.float32)
    instances = np.zeros((SIDE, SIDE), np.uint8)
    for number, (centre, radius) in enumerate(VESSELS):
        cv2.circle(hu, centre, radius, BLOOD[index], -1)
        if number == 3 and index % 2:
            cv2.ellipse(instances, centre, (5, 3), 0, 0, 360, 1, -1)
            hu[instances > 0] = 50
    cv2.rectangle(hu, (44, 60), (52, 90), 900, -1)  # bone
    hu += rng.normal(0, 4, hu.shape)
    return np.rint(hu).astype(np.int16), instances


def write_vessel_set(root: Path) -> Path:
    """12 slices of 96 x 96; the masks of the first are unknown."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    (root / "images/PAT000").mkdir(parents=True)
    images, annotations = [], []
    for index in range(SLICES):
        hu, instances = paint(rng, index)
        name = f"images/PAT000/{index:04d}.png"
        write_slice_png(root / name, hu)
        image = _image(index + 1, name, "PAT000", index, SIDE, bool(instances.any()))
        image["spacing_mm"] = [0.7, 0.7, 1.0]
        image["position_mm"], image["orientation"] = [0.0, 0.0, float(index)], [1, 0, 0, 0, 1, 0]
        images.append({**image, "labels_known": ["slice"] if not index else ALL_KNOWN})
        annotations += _annotations(index + 1, len(annotations) + 1, instances)
    info = {"hu_offset": HU_OFFSET}
    coco = dict(info=info, images=images, annotations=annotations, categories=[], exams=[])
    (root / "annotations/train.json").write_text(json.dumps(coco))
    return root


def write_arteries(folder: Path, vessel_of: Callable[[int], int]) -> Path:
    """Masks as TotalSegmentator writes them, of one vessel in every slice."""
    masks = np.zeros((SLICES, SIDE, SIDE), np.uint8)
    for index, mask in enumerate(masks):
        cv2.circle(mask, *VESSELS[vessel_of(index)], 1, -1)
    (folder / "PAT000").mkdir(parents=True)
    image = nibabel.Nifti1Image(masks.transpose(2, 1, 0), np.diag([-0.7, -0.7, 1.0, 1.0]))
    nibabel.save(image, folder / "PAT000" / "lung_arteries.nii.gz")
    return folder
