"""Label maps of real patients to paint on: lungs, pulmonary arteries, veins with left atrium.

Two kinds of folder are read: one NIfTI per patient with the labels 1 lung, 2 arteries, 3 veins
(as published for CAD-PE), and the output of TotalSegmentator, one NIfTI per structure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

LUNG, ARTERY, VEIN = 1, 2, 3
#: Label maps are processed at this spacing, mm.
STEP = 1.5

_LOBES = (
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
)
_ARTERY_FILE = "pulmonary_artery"
_VESSEL_FILE = "lung_vessels"
_VEIN_FILES = ("pulmonary_vein", "heart_atrium_left", "atrial_appendage_left")


@dataclass(frozen=True)
class LabelMap:
    """Labels of one patient.

    Attributes:
        name: of the patient.
        labels: uint8 (slices, rows, cols); slices run to the head, rows to the back, columns
            to the patient's left; 0 none, 1 lung, 2 arteries, 3 veins with left atrium.
        spacing: mm between slices, rows, columns.
    """

    name: str
    labels: np.ndarray
    spacing: tuple[float, float, float]


def _structure(folder: Path, name: str) -> Path | None:
    for suffix in (".nii.gz", ".nii"):
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    return None


def _is_segmentator(folder: Path) -> bool:
    return any(_structure(folder, name) is not None for name in _LOBES)


def list_anatomies(folder: str | Path) -> Mapping[str, Path]:
    """The patients of a folder by name, sorted: label maps, or TotalSegmentator outputs.

    Raises:
        FileNotFoundError: no such folder, or nothing in it that can be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of anatomies at {folder}; check --anatomy")
    if _is_segmentator(folder):
        return {folder.resolve().name: folder}
    found = {path.name: path for path in sorted(folder.iterdir()) if _is_candidate(path)}
    found = {name.removesuffix(".gz").removesuffix(".nii"): path for name, path in found.items()}
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no label maps (NAME.nii.gz with 1 lung, 2 arteries, 3 veins) and no "
            f"TotalSegmentator output ({_LOBES[0]}.nii.gz and so on)"
        )
    return found


def _is_candidate(path: Path) -> bool:
    if path.is_dir():
        return _is_segmentator(path)
    return path.name.endswith((".nii.gz", ".nii")) and not path.name.startswith(".")


def _load(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """An integer volume as (slices to the head, rows to the back, columns to the left)."""
    try:
        image = nibabel.Nifti1Image.from_filename(path)
        if len(image.shape) != 3:
            raise ValueError(f"{path} has shape {image.shape}; a label map has three axes")
        turn = nibabel.orientations.ornt_transform(
            nibabel.orientations.io_orientation(image.affine),
            nibabel.orientations.axcodes2ornt(("L", "P", "S")),
        )
        data = nibabel.orientations.apply_orientation(np.asarray(image.dataobj), turn)
        sizes = np.asarray(image.header.get_zooms()[:3])[np.argsort(turn[:, 0])]
    except (OSError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise ValueError(f"{path} cannot be read as NIfTI ({error}); replace the file") from error
    spacing = (float(sizes[2]), float(sizes[1]), float(sizes[0]))
    return np.ascontiguousarray(data.transpose(2, 1, 0)), spacing


def read_label_map(path: Path, name: str | None = None) -> LabelMap:
    """Read one patient: a label map, or a folder of TotalSegmentator's structures.

    Raises:
        ValueError: unreadable, a structure is missing, or a label is absent.
    """
    name = name or path.name.removesuffix(".gz").removesuffix(".nii")
    if path.is_dir():
        labels, spacing = _from_segmentator(path)
    else:
        labels, spacing = _load(path)
        values = np.unique(labels)
        if not np.isin(values, (0, LUNG, ARTERY, VEIN)).all():
            raise ValueError(
                f"{path} holds values {values[:8].tolist()}; a label map has "
                "0 none, 1 lung, 2 arteries, 3 veins with left atrium"
            )
        labels = labels.astype(np.uint8)
    labels, spacing = _resampled(labels, spacing)
    for value, what in ((LUNG, "lung"), (ARTERY, "arteries"), (VEIN, "veins")):
        if np.count_nonzero(labels == value) < 2000:
            raise ValueError(f"{path} has almost no {what} (label {value}); leave it out")
    return LabelMap(name, labels, spacing)


def _resampled(
    labels: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Labels at about :data:`STEP` mm, by nearest voxels, if the spacing is far from it."""
    if all(0.8 * STEP <= s <= 1.35 * STEP for s in spacing):
        return labels, spacing
    index = [
        np.minimum((np.arange(int(n * s / STEP)) + 0.5) * STEP / s, n - 1).astype(int)
        for n, s in zip(labels.shape, spacing)
    ]
    return np.ascontiguousarray(labels[np.ix_(*index)]), (STEP, STEP, STEP)


def _from_segmentator(folder: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """The three labels from TotalSegmentator's structures.

    ``lung_vessels`` holds arteries and veins together; each vessel is assigned to the central
    artery or the left heart, depending on which it is reached from through the thicker vessels.
    """
    paths = {name: _structure(folder, name) for name in (*_LOBES, _ARTERY_FILE, _VESSEL_FILE)}
    missing = [name for name, path in paths.items() if path is None]
    veins = [path for name in _VEIN_FILES if (path := _structure(folder, name)) is not None]
    if not veins:
        missing.append(f"{_VEIN_FILES[0]} (or {' or '.join(_VEIN_FILES[1:])})")
    if missing:
        raise ValueError(
            f"{folder} lacks {', '.join(missing)}; run TotalSegmentator with the tasks total and "
            "lung_vessels, and heartchambers_highres for pulmonary_artery where total does not "
            "give it"
        )
    loaded = {name: _load(path) for name, path in paths.items() if path is not None}
    first, spacing = loaded[_LOBES[0]]
    lung = np.zeros(first.shape, dtype=bool)
    masks = {}
    for name, (data, _) in loaded.items():
        if data.shape != first.shape:
            raise ValueError(f"{folder}/{name} has shape {data.shape}, not {first.shape}")
        masks[name] = data > 0
    for name in _LOBES:
        lung |= masks[name]
    left = np.zeros(first.shape, dtype=bool)
    for path in veins:
        left |= _load(path)[0] > 0
    artery = masks[_ARTERY_FILE] & ~left
    vessels = masks[_VESSEL_FILE] | artery | left
    markers = np.where(artery, ARTERY, np.where(left, VEIN, 0)).astype(np.int32)
    depth = ndimage.distance_transform_edt(vessels, sampling=spacing)
    split = watershed(-depth, markers, mask=vessels, connectivity=np.ones((3, 3, 3)))
    return np.where(split > 0, split, lung * LUNG).astype(np.uint8), spacing
