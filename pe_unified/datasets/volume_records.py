"""Studies of a converted set as volumes: which can be used, and their labels."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy import ndimage

from pe_unified.ct.converted_study import converted_study, is_placed
from pe_unified.ct.lung_crop import require_volume
from pe_unified.ct.study import CTStudy
from pe_unified.datasets.slice_dataset import DatasetError, in_series, parse_slice
from pe_unified.errors import DataError

#: Voxels that touch at faces, edges or corners belong to one lesion.
CONNECTIVITY = 26


@dataclass(frozen=True, eq=False)
class LesionMap:
    """The lesions of a study, cropped to their bounding box.

    Attributes:
        instances: int32 (slices, rows, cols); 0 is background.
        start: (slice, row, col) of the crop's first voxel in the study.
        spacing_mm: (slice, row, col).
        numbered: whether the set numbers the lesions; else they are connected components with
            :data:`CONNECTIVITY`.
    """

    instances: np.ndarray
    start: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    numbered: bool

    def points(self) -> np.ndarray:
        """Voxels of all lesions, in coordinates of the study, int64 (n, 3)."""
        return np.argwhere(self.instances) + self.start


@dataclass(frozen=True, eq=False)
class VolumeRecord:
    """One series of a converted set.

    Attributes:
        slices: results of :func:`~pe_unified.datasets.slice_dataset.parse_slice`, with
            ``file_index`` and the ``numbers`` of the masks.
    """

    slices: tuple[Mapping[str, Any], ...]

    @property
    def patient_id(self) -> str:
        return self.slices[0]["patient_id"]

    @property
    def study_uid(self) -> str:
        return self.slices[0]["study_uid"]

    @property
    def folder(self) -> Path:
        return Path(self.slices[0]["img_path"]).parent

    @property
    def masks_known(self) -> bool:
        """Whether the masks of all slices are known."""
        return all(each["masks"] is not None for each in self.slices)

    @property
    def placed(self) -> bool:
        """Whether the set gives the position of the slices in the patient."""
        return is_placed(self.slices)

    def study(self) -> CTStudy:
        """The series as a study, read slice by slice."""
        return converted_study(self.slices)

    def masks(self) -> Iterator[tuple[int, np.ndarray]]:
        """The index and mask of every slice with emboli: int32 (rows, cols), 0 background.

        Raises:
            DatasetError: a mask and its slice differ in size.
        """
        for index, each in enumerate(self.slices):
            if not each["masks"]:
                continue
            found = np.zeros((each["height"], each["width"]), dtype=np.int32)
            for number, code in zip(each["numbers"], each["masks"], strict=True):
                if list(code["size"]) != list(found.shape):
                    raise DatasetError(
                        f"{each['img_path']}: a mask of size {code['size']} on a slice of "
                        f"{list(found.shape)}; run pe-unified verify on the set"
                    )
                found[coco_mask.decode(code).astype(bool)] = number or 1
            yield index, found

    def lesions(self) -> LesionMap:
        """The lesions as numbered by the set, else connected components."""
        row_mm, col_mm, slice_mm = self.slices[0]["spacing_mm"]
        numbers = [number for each in self.slices for number in each["numbers"]]
        numbered = bool(numbers) and None not in numbers
        found = dict(self.masks())
        instances, start = np.zeros((0, 0, 0), np.int32), (0, 0, 0)
        if found:
            flat = np.any(list(found.values()), axis=0)
            rows, cols = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
            first, last = min(found), max(found)
            box = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
            sides = (last - first + 1, rows[-1] - rows[0] + 1, cols[-1] - cols[0] + 1)
            instances, start = np.zeros(sides, np.int32), (first, int(rows[0]), int(cols[0]))
            for index, mask in found.items():
                instances[index - first] = mask[box]
            if not numbered:
                instances = ndimage.label(instances, np.ones((3, 3, 3)))[0]
        spacing = (float(slice_mm), float(row_mm), float(col_mm))
        return LesionMap(instances, start, spacing, numbered)

    def digest_of_images(self) -> "hashlib._Hash":
        """Digest of the voxels, from file names and sizes, positions, spacing and lungs."""
        told = [
            (Path(each["img_path"]).name, Path(each["img_path"]).stat().st_size, each["z_mm"])
            for each in self.slices
        ]
        first = self.slices[0]
        shares = [each["lung_share"] for each in self.slices]
        return hashlib.sha256(repr([told, first["spacing_mm"], first["lung_box"], shares]).encode())


def records_of(coco: Mapping[str, Any], root: Path) -> tuple[list[VolumeRecord], list[dict]]:
    """The series of a set that are volumes with lungs, and the reasons why others are left out.

    If a study has several series, the longest is used.

    Returns:
        Records; and dicts of ``study_uid``, ``patient_id`` and ``reason``.
    """
    annotations: dict[int, list[dict]] = defaultdict(list)
    for annotation in coco["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    studies: dict[tuple, list[dict]] = defaultdict(list)
    for image in coco["images"]:
        own = annotations[image["id"]]
        extra = {
            "file_index": image.get("file_index"),
            "numbers": [each.get("instance_id") for each in own],
        }
        record = {**parse_slice(image, own, root), **extra}
        studies[image["patient_id"], image["study_uid"]].append(record)
    records, left_out = [], []
    for (patient, study), slices in studies.items():
        record = VolumeRecord(tuple(max(in_series(slices), key=len)))
        reason = _fault(record)
        if reason:
            left_out.append({"study_uid": study, "patient_id": patient, "reason": reason})
        else:
            records.append(record)
    return records, left_out


def _fault(record: VolumeRecord) -> str:
    """Why a series is not a volume with lungs; empty if it is one."""
    sizes = {(each["height"], each["width"]) for each in record.slices}
    if len(sizes) > 1:
        return f"its slices differ in size ({', '.join(f'{r} x {c}' for r, c in sorted(sizes))})"
    indices = [each["slice_index"] for each in record.slices]
    lost = indices[-1] - indices[0] + 1 - len(indices)
    if lost and len(indices) > 1:
        return f"{lost} of its slices are not in the set"
    try:
        require_volume(record.study())
    except DataError as error:
        return error.reason
    if record.slices[0]["lung_box"] is None:
        return "no lungs were found in it"
    if not any(each["lung_share"] for each in record.slices):
        return "how much of its slices is lung is not known; convert the set again"
    return ""
