"""Finds the emboli in a file of masks: DICOM SEG, segmentations of 3D Slicer, and plain volumes,
in which numbers have no names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import nrrd
import numpy as np

from pe_unified.ct.dicom_file import open_dicom
from pe_unified.ct.mask_volumes import SEG, MaskVolume, read_mask_volume, read_seg
from pe_unified.ct.volume_files import open_nrrd
from pe_unified.errors import COPY_AGAIN, DataError
from pe_unified.options import META_IMAGE, NIFTI, NRRD

#: Names of an embolus; PE and LAE (German) only as separate words.
_EMBOLUS = re.compile(
    r"embol|thromb|clot|caillot|filling.?defect|(?<![a-z])(?:pe|lae)(?![a-z])", re.IGNORECASE
)
#: Larger numbers in a plain mask are not numbers of emboli.
_LARGEST = np.iinfo(np.uint16).max
#: Number of structures listed in an error.
_LISTED = 12


def choose_emboli(names: Mapping[int, str], asked: Sequence[str], path: Path) -> list[int]:
    """The numbers of the structures that are emboli.

    The structures asked for by name; else the only one; else those with the name of an embolus.

    Args:
        names: number to name.
        asked: names, in upper or lower case.
        path: for errors.

    Raises:
        DataError: none is asked for, and the names do not decide.
    """
    wanted = {name.casefold() for name in asked}
    if wanted:
        found = [number for number, name in names.items() if name.casefold() in wanted]
    else:
        found = [number for number, name in names.items() if _EMBOLUS.search(name)]
        found = found or (list(names) if len(names) == 1 else [])
    if found:
        return found
    listed = ", ".join(list(names.values())[:_LISTED]) or "none"
    what = f"named {' or '.join(asked)}" if wanted else "whose name means an embolus"
    cure = f"name those that are emboli by --labels; there are: {listed}"
    raise DataError(path, f"no structure {what} among {len(names)}", cure)


def read_emboli(path: Path, scratch: Path, asked: Sequence[str] = ()) -> MaskVolume:
    """The emboli of a file of masks: uint16 (i, j, k), their number in the file, 0 elsewhere.

    Args:
        path: with one of the endings :data:`~pe_unified.ct.mask_volumes.MASK_FILES`; a DICOM file
            may have another ending, or none.
        scratch: folder for unpacking a compressed file.
        asked: names of the structures that are emboli; for a plain volume their numbers. Names
            do not matter there if there is a number.

    Raises:
        DataError: unreadable, or it is unclear what an embolus is.
    """
    name = path.name.lower()
    if name.endswith(".seg.nrrd"):
        return _of_slicer(path, scratch, asked)
    if is_dicom_mask(path):
        return _of_seg(path, asked)
    return _plain(read_mask_volume(path, scratch), asked)


def is_dicom_mask(path: Path) -> bool:
    """Whether the ending of a file of masks shows that it can only be DICOM."""
    name = path.name.lower()
    return name.endswith(SEG) or not name.endswith((*NIFTI, *NRRD, *META_IMAGE))


def _plain(volume: MaskVolume, asked: Sequence[str]) -> MaskVolume:
    numbers = [int(each) for each in asked if each.isdecimal()]
    if asked and not numbers:
        reason = f"a plain mask, in which nothing is named {' or '.join(asked)}"
        raise DataError(volume.path, reason, "give its numbers by --labels")
    stored = volume.array
    if stored.dtype.kind == "f":
        whole = np.rint(stored)
        if not np.array_equal(whole, stored):
            cure = "save it as whole numbers, 0 outside emboli"
            raise DataError(volume.path, "values with fractions, no mask", cure)
        stored = whole
    if stored.min() < 0 or stored.max() > _LARGEST:
        reason = f"values from {stored.min()} to {stored.max()}, no mask"
        raise DataError(volume.path, reason, "name the mask of the study")
    values = stored.astype(np.uint16)
    if not numbers:
        return replace(volume, array=values)
    emboli = np.where(np.isin(values, numbers), values, 0)
    others = () if emboli.any() else tuple(np.unique(values[values > 0]).tolist())
    return replace(volume, array=emboli, others=others)


def _of_seg(path: Path, asked: Sequence[str]) -> MaskVolume:
    dataset = open_dicom(path, stop_before_pixels=True)
    if dataset.get("Modality") != "SEG":
        kind = dataset.get("Modality") or "unknown"
        cure = "name a file of masks: SEG, RTSTRUCT, NIfTI, NRRD or MetaImage"
        raise DataError(path, f"a DICOM object of modality {kind}, no mask", cure)
    try:
        names = {int(s.SegmentNumber): str(s.SegmentLabel) for s in dataset.SegmentSequence}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(path, "no readable DICOM SEG", COPY_AGAIN, error) from error
    array, affine = read_seg(path, choose_emboli(names, asked, path))
    return MaskVolume(path, array.astype(np.uint16), affine)


def _of_slicer(path: Path, scratch: Path, asked: Sequence[str]) -> MaskVolume:
    """A segmentation of 3D Slicer: layers of numbered segments, cropped to their content."""
    raw, affine = open_nrrd(path, scratch, layers=True)
    if affine is None:
        raise DataError(path, "the spacing of its voxels is not given", "save it again")
    header = nrrd.read_header(str(path))
    try:
        segments = {
            number: (
                str(header[f"Segment{number}_Name"]),
                int(header.get(f"Segment{number}_LabelValue", number + 1)),
                int(header.get(f"Segment{number}_Layer", 0)),
            )
            for number in (
                int(key[len("Segment") : -len("_Name")])
                for key in header
                if re.fullmatch(r"Segment\d+_Name", key)
            )
        }
    except ValueError as error:
        raise DataError(path, "no readable segmentation of 3D Slicer", COPY_AGAIN, error) from error
    stored = raw.open()
    layers = stored if stored.ndim == 4 else stored[np.newaxis]
    names = {number: name for number, (name, _, _) in segments.items()}
    if not names:  # written by another program, with an ending that Slicer uses
        return _plain(MaskVolume(path, layers.max(axis=0), affine, raw.placed), asked)
    emboli = np.zeros(layers.shape[1:], np.uint16)
    for number in choose_emboli(names, asked, path):
        _, value, layer = segments[number]
        if layer >= len(layers):
            raise DataError(
                path, f"segment {number} lies in layer {layer}, which is not there", COPY_AGAIN
            )
        emboli[(layers[layer] == value) & (emboli == 0)] = number + 1
    return MaskVolume(path, emboli, affine, raw.placed)
