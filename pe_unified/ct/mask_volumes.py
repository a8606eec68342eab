"""Reads masks and probability maps of any program: NIfTI, NRRD, MetaImage, DICOM SEG,
nnU-Net."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import IO

import numpy as np

from pe_unified.ct.archive import ArchiveLimits
from pe_unified.ct.grids import Turn, turn_of, turned_affine
from pe_unified.ct.meta_image import open_meta
from pe_unified.ct.overlay import EvenSlices
from pe_unified.ct.volume_files import nifti_is_placed, open_nrrd, read_nifti
from pe_unified.errors import COPY_AGAIN, DataError
from pe_unified.options import META_IMAGE, NIFTI, NRRD

#: DICOM SEG, and the output of ``nnUNetv2_predict --save_probabilities``.
SEG, PROBABILITIES = (".dcm",), (".npz",)
MASK_FILES = (*NIFTI, *NRRD, *META_IMAGE, *SEG)
#: These end where nothing is segmented any more, not where the scan ends.
_CUT_TO_CONTENT = (*SEG, ".seg.nrrd")
#: No side of a scan of the chest is longer, also with the abdomen.
_LONGEST_MM = 1000.0
#: Relative difference of spacings that is not one.
_SAME_SPACING = 0.01
#: A mask compresses far better than a CT.
_LIMITS = ArchiveLimits(ratio=float(1 << 20))


@dataclass(frozen=True, eq=False)
class MaskVolume:
    """The content of a file, and its geometry.

    Attributes:
        array: (i, j, k), as stored.
        affine: 4 x 4, (i, j, k, 1) to LPS mm.
        placed: whether the file gives the patient's orientation, not only the voxel spacing.
        others: numbers that were left out, if nothing else was in the file.
    """

    path: Path
    array: np.ndarray
    affine: np.ndarray
    placed: bool = True
    others: tuple[int, ...] = ()

    @property
    def is_cut(self) -> bool:
        """Whether the file may end before the scan does, because the rest is empty."""
        return self.path.name.lower().endswith(_CUT_TO_CONTENT)

    @property
    def turn(self) -> Turn:
        return turn_of(self.affine)

    @property
    def values(self) -> np.ndarray:
        """A view (slices, rows, cols)."""
        return self.turn.apply(self.array)

    @property
    def slices(self) -> EvenSlices:
        """The grid of the slices."""
        count, rows, cols = self.values.shape
        affine = turned_affine(self.affine, self.turn, self.array.shape)
        return EvenSlices((count, rows, cols), affine)


def read_mask_volume(path: Path, scratch: Path) -> MaskVolume:
    """Read a file according to its ending.

    Args:
        path: with one of the endings :data:`MASK_FILES`.
        scratch: folder for unpacking a compressed file.

    Raises:
        DataError: unreadable, truncated, not three axes, or of unknown voxel size.
    """
    name = path.name.lower()
    if name.endswith(NIFTI):
        array, affine = read_nifti(path)
        return MaskVolume(path, array, affine, nifti_is_placed(path))
    if name.endswith(NRRD):
        raw, own = open_nrrd(path, scratch)
        if own is None:
            reason = "the spacing of its voxels is not given"
            raise DataError(path, reason, "save it with its spacing")
        return MaskVolume(path, raw.open(), own, raw.placed)
    if name.endswith(META_IMAGE):
        raw, affine = open_meta(path, scratch, _LIMITS)
        return MaskVolume(path, raw.open(), affine, raw.placed)
    if name.endswith(SEG):
        return MaskVolume(path, *read_seg(path))
    raise DataError(path, "no mask by its ending", f"save it as {' or '.join(MASK_FILES)}")


def same_spacing(one: MaskVolume, other: MaskVolume) -> bool:
    """Whether the spacings differ by less than 1 %; grids of one shape suggest a lost header."""
    ratios = np.divide(one.slices.spacing_mm, other.slices.spacing_mm)
    return bool((np.abs(ratios - 1) <= _SAME_SPACING).all())


def covering(volume: MaskVolume, other: MaskVolume) -> MaskVolume:
    """The volume with empty voxels around it, so that it also covers the grid of another.

    It stays as it is if that grid is too far away to be of the same scan.
    """
    corners = np.array([*product(*[(0, side - 1) for side in other.array.shape], [1])])
    at = np.rint(corners @ (np.linalg.inv(volume.affine) @ other.affine).T)[:, :3]
    sides = np.array(volume.array.shape)
    first, last = np.minimum(0, at.min(axis=0)), np.maximum(sides - 1, at.max(axis=0))
    size_mm = np.linalg.norm(volume.affine[:3, :3], axis=0)
    if ((last - first) * size_mm > _LONGEST_MM).any():
        return volume
    before, after = -first.astype(int), last.astype(int) + 1 - sides
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ before
    array = np.pad(volume.array, [*zip(before, after, strict=True)])
    return replace(volume, array=array, affine=affine)


def read_seg(path: Path, numbers: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The segments of a DICOM SEG by their numbers: (i, j, k), and the affine to LPS mm.

    ``numbers``: of the requested segments; by default all. The volume extends from the first to
    the last slice with a frame. Where segments overlap, the higher number wins.
    """
    import highdicom as hd  # takes a second to import, rarely needed

    try:
        segmentation = hd.seg.segread(path)
        if segmentation.segmentation_type == hd.seg.SegmentationTypeValues.FRACTIONAL:
            raise DataError(path, "a fractional SEG", "save it as a binary one, or as NIfTI")
        volume = segmentation.get_volume(
            segment_numbers=numbers, combine_segments=True, skip_overlap_checks=True
        )
    except DataError:
        raise
    except Exception as error:  # errors of the reader caused by a damaged file
        raise DataError(path, "no readable DICOM SEG", COPY_AGAIN, error) from error
    affine = volume.affine.astype(np.float64)
    affine[:3, :3] = affine[:3, 2::-1]  # its axes are (slice, row, col)
    return volume.array.transpose(2, 1, 0), affine


def read_nnunet_probabilities(path: Path) -> np.ndarray:
    """The probability of everything except background, as nnU-Net v2 stores it next to its mask.

    The file's ``probabilities`` are (classes, z, y, x), axes in reverse order of the NIfTI, at the
    input's own resolution; class 0 is background. Read slice by slice, so that never all classes
    are in memory at once.

    Returns:
        float32 (i, j, k) in the order of the NIfTI's axes.

    Raises:
        DataError: unreadable, or not in this layout.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open("probabilities.npy") as file:
            shape, dtype = _npy_header(file)
            if len(shape) != 4 or shape[0] < 2 or dtype.kind != "f":
                raise ValueError(f"probabilities of shape {shape} and type {dtype}")
            total = np.zeros(shape[1:], np.float32)
            plane = int(np.prod(shape[2:])) * dtype.itemsize
            for channel in range(shape[0]):
                for level in range(shape[1]):
                    data = file.read(plane)
                    if len(data) < plane:
                        raise EOFError("cut short")
                    if channel:
                        total[level] += np.frombuffer(data, dtype).reshape(shape[2:])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        cure = "predict again with --save_probabilities"
        raise DataError(path, "no probabilities of nnU-Net", cure, error) from error
    return total.transpose(2, 1, 0)


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, columns_first, dtype = read(file)
    if columns_first:
        raise ValueError("stored by columns")
    return shape, dtype
