"""A converted set of small volumes, written in a second, with masks of arteries beside it.

Every study is a block of lung with an artery along z; in every second one a ball of clot lies in
the artery, at :func:`clot_mm`. Spacing differs along all axes.
"""

import json
from pathlib import Path

import nibabel
import numpy as np

from pe_unified.converters.contract.schema import encode_mask, exam_entry
from pe_unified.ct.hu import HU_OFFSET, write_slice_png

SPLITS = {"train": 3, "val": 2, "test": 2}
#: (slices, rows, cols), and mm between them.
SHAPE, SPACING = (18, 44, 40), (2.5, 1.5, 1.25)
ORIGIN = np.array([-31.0, 12.0, -240.0])
RADIUS_MM = 5.0


def places_mm() -> np.ndarray:
    """LPS of every voxel, float (slices, rows, cols, 3)."""
    level, row, col = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    step, row_mm, col_mm = SPACING
    return ORIGIN + np.stack([col * col_mm, row * row_mm, level * step], axis=-1)


def clot_mm(number: int) -> np.ndarray:
    """LPS of the middle of the clot of a study; it moves up with the number."""
    return ORIGIN + np.array([24.0, 30.0, 15.0 + 3.0 * number])


def paint(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HU, clot and artery, (slices, rows, cols) each."""
    rng = np.random.default_rng(number)
    places = places_mm()
    middle = clot_mm(number)
    artery = np.linalg.norm((places - middle)[..., :2], axis=-1) <= 8.0
    clot = np.linalg.norm(places - middle, axis=-1) <= RADIUS_MM
    clot &= number % 2 == 0
    hu = rng.normal(-800, 20, SHAPE)
    hu[artery] = 350
    hu[clot] = 60
    return np.rint(hu).astype(np.int16), clot, artery


def write_tiny_volumes(root: Path, splits: dict[str, int] | None = None) -> Path:
    """The set lies in ``root/set``, the masks in ``root/structures``."""
    number = 0
    for split, studies in (splits or SPLITS).items():
        images: list[dict] = []
        annotations: list[dict] = []
        exams = []
        for _ in range(studies):
            _write_study(root, number, images, annotations)
            exams.append(exam_entry(f"1.2.{number}", f"PAT{number:03d}"))
            number += 1
        coco = {
            "info": {"description": "tiny volumes", "hu_offset": HU_OFFSET, "split_seed": 0},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "embolus", "supercategory": "pulmonary embolism"}],
            "exams": exams,
        }
        path = root / "set" / "annotations" / f"{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(coco))
    return root / "set"


def _write_study(root: Path, number: int, images: list[dict], annotations: list[dict]) -> None:
    name = f"PAT{number:03d}"
    hu, clot, artery = paint(number)
    (root / "set" / "images" / name).mkdir(parents=True)
    step, row_mm, col_mm = SPACING
    for index in range(SHAPE[0]):
        file_name = f"images/{name}/{index:04d}.png"
        write_slice_png(root / "set" / file_name, hu[index])
        images.append(
            {
                "id": len(images) + 1,
                "file_name": file_name,
                "height": SHAPE[1],
                "width": SHAPE[2],
                "patient_id": name,
                "study_uid": f"1.2.{number}",
                "series_uid": f"1.2.{number}.1",
                "sop_uid": None,
                "slice_index": index,
                "file_index": SHAPE[0] - 1 - index,
                "z_mm": ORIGIN[2] + step * index,
                "spacing_mm": [row_mm, col_mm, step],
                "position_mm": (ORIGIN + np.array([0, 0, step * index])).tolist(),
                "orientation": [1, 0, 0, 0, 1, 0],
                "pe_present": int(clot[index].any()),
                "labels_known": ["slice", "boxes", "masks"],
                "lung_box": [1, 1, SHAPE[2] - 2, SHAPE[1] - 2],
                "lung_share": 0.4,
            }
        )
        if clot[index].any():
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": images[-1]["id"],
                    "category_id": 1,
                    "bbox": [0, 0, 1, 1],
                    "area": int(clot[index].sum()),
                    "segmentation": encode_mask(clot[index]),
                    "iscrowd": 0,
                }
            )
    affine = np.diag([-col_mm, -row_mm, step, 1.0])
    affine[:3, 3] = ORIGIN * [-1, -1, 1]
    folder = root / "structures" / name
    folder.mkdir(parents=True)
    mask = nibabel.Nifti1Image(artery.transpose(2, 1, 0).astype(np.uint8), affine)
    nibabel.save(mask, folder / "lung_arteries.nii.gz")
