"""The studies of a converted set as cases of nnU-Net: selection, and writing of volumes."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from pe_unified.converters.contract.annotations import SplitFile, load_splits
from pe_unified.converters.contract.nnunet import image_path, instance_path, label_path, part_of
from pe_unified.converters.contract.schema import decode_mask
from pe_unified.ct.converted_study import converted_study, is_placed
from pe_unified.ct.hu import read_slice_png
from pe_unified.errors import DataError

#: A grid is uneven if a step between slices differs from the usual one by more than this share.
_UNEVEN = 0.05


@dataclass(frozen=True)
class ExportedCase:
    """One series of slices with all masks known.

    Attributes:
        case: name in nnU-Net.
        images: entries of ``images[]`` from feet to head.
        annotations: of each of them.
    """

    case: str
    split: str
    images: tuple[Mapping[str, Any], ...]
    annotations: tuple[tuple[Mapping[str, Any], ...], ...]

    def record(self) -> dict[str, Any]:
        """The information that has no place in nnU-Net's files."""
        first = self.images[0]
        names = ("patient_id", "study_uid", "series_uid", "group")
        return {
            "split": self.split,
            **{name: first.get(name) for name in names},
            "synthetic": bool(first.get("synthetic")),
            "set": first.get("set"),
            "instances": self.has_instances,
            "placed": is_placed(self.images),
        }

    @property
    def has_instances(self) -> bool:
        return any("instance_id" in each for own in self.annotations for each in own)

    def affine_lps(self) -> np.ndarray:
        """4 x 4, (col, row, slice, 1) to LPS mm."""
        slices = [{**image, "img_path": image["file_name"]} for image in self.images]
        return converted_study(slices).affine_lps()


def read_cases(root: Path, name: str) -> tuple[list[ExportedCase], dict[str, str], dict]:
    """All series of a converted set.

    Args:
        root: the set's folder.
        name: prefix of the case names.

    Returns:
        The cases; the reason why other series are not cases, by patient and study; the set's
        ``info``.

    Raises:
        DataError: the set cannot be read.
    """
    cases: list[ExportedCase] = []
    left_out: dict[str, str] = {}
    info: dict[str, Any] = {}
    for part in load_splits(root):
        info = part.info
        own, others = _cases_of(part, name)
        cases += own
        left_out |= others
    return cases, left_out, info


def _cases_of(part: SplitFile, name: str) -> tuple[list[ExportedCase], dict[str, str]]:
    series: dict[tuple, list[Mapping[str, Any]]] = defaultdict(list)
    folders: dict[str, list[tuple]] = defaultdict(list)
    for image in part.images:
        key = (image["patient_id"], image["study_uid"], image["series_uid"])
        if key not in series:
            folders[image["file_name"].split("/")[-2]].append(key)
        series[key].append(image)
    cases, left_out = [], {}
    for folder, keys in folders.items():
        for number, key in enumerate(keys, start=1):
            images = sorted(series[key], key=lambda image: image["slice_index"])
            reason = _unfit(images)
            if reason:
                left_out[f"{key[0]}, study {key[1]}"] = reason
                continue
            case = f"{name}_{folder}" + (f"-{number}" if len(keys) > 1 else "")
            annotations = tuple(tuple(part.annotations.get(each["id"], ())) for each in images)
            cases.append(ExportedCase(case, part.name, tuple(images), annotations))
    return cases, left_out


def _unfit(images: list[Mapping[str, Any]]) -> str:
    """The reason why slices do not form one labelled volume; empty if they do."""
    unknown = sum("masks" not in image["labels_known"] for image in images)
    if unknown:
        return f"the masks of {unknown} of {len(images)} slices are not known"
    if len({(image["height"], image["width"]) for image in images}) > 1:
        return "its slices differ in size"
    if None in images[0]["spacing_mm"] or any(image["z_mm"] is None for image in images):
        return "its spacing is not known"
    if len({tuple(image["spacing_mm"]) for image in images}) > 1:
        return "its slices differ in spacing"
    numbers = [image["slice_index"] for image in images]
    steps = np.diff([image["z_mm"] for image in images])
    usual = float(np.median(steps)) if len(steps) else 1.0
    gaps = int((np.diff(numbers) != 1).sum() + (steps > 1.5 * usual).sum())
    if gaps:
        return f"slices are missing at {gaps} places, and NIfTI has an even grid"
    if len(steps) and np.abs(steps / usual - 1).max() > _UNEVEN:
        span = f"{steps.min():.3g} to {steps.max():.3g} mm"
        return f"its slices lie {span} apart, and NIfTI has an even grid"
    return ""


def write_case(case: ExportedCase, data: Path, root: Path) -> DataError | None:
    """Write the image, the label and, if any, the instances of a case; run by a worker.

    Args:
        data: the converted set.
        root: the dataset of nnU-Net.

    Returns:
        The error of a slice, if there is one.
    """
    first = case.images[0]
    shape = (first["width"], first["height"], len(case.images))
    hu = np.empty(shape, np.int16, order="F")
    labels = np.zeros(shape, np.uint8, order="F")
    instances = np.zeros(shape, np.uint16, order="F") if case.has_instances else None
    for index, (image, annotations) in enumerate(zip(case.images, case.annotations, strict=True)):
        try:
            hu[:, :, index] = read_slice_png(data / image["file_name"]).T
        except (OSError, ValueError) as error:
            cure = "run pe-unified verify on the set"
            return DataError(data / image["file_name"], "cannot be read", cure, error)
        for annotation in annotations:
            mask = decode_mask(annotation["segmentation"]).T > 0
            labels[:, :, index][mask] = 1
            if instances is not None:
                instances[:, :, index][mask] = annotation.get("instance_id", 0)
    part, affine = part_of(case.split), case.affine_lps()
    _save(image_path(root, part, case.case), hu, affine)
    _save(label_path(root, part, case.case), labels, affine)
    if instances is not None:
        _save(instance_path(root, part, case.case), instances, affine)
    return None


def _save(path: Path, array: np.ndarray, affine_lps: np.ndarray) -> None:
    image = nibabel.Nifti1Image(array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_lps)
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
