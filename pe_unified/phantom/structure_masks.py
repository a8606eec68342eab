"""Masks of a synthetic study's arteries and veins, in the format of TotalSegmentator."""

import gzip
from pathlib import Path

import nibabel
import numpy as np

from pe_unified.files import appearing_folder, write_bytes
from pe_unified.phantom.study import STRUCTURES, PhantomStudy

#: File names and structures; arteries include the trunk, veins the left atrium.
_MASKS = {"lung_arteries": "artery", "lung_veins": "vein"}


def write_structures(folder: Path, study: PhantomStudy) -> None:
    """Write one NIfTI per structure, on the grid of the study; emboli count as artery."""
    with appearing_folder(folder) as partial:
        for name, structure in _MASKS.items():
            mask = study.structures == STRUCTURES[structure]
            write_bytes(partial / f"{name}.nii.gz", _nifti(mask, study))


def _nifti(mask: np.ndarray, study: PhantomStudy) -> bytes:
    """A mask (slices, rows, cols): columns first, RAS."""
    array = np.asfortranarray(mask.astype(np.uint8).transpose(2, 1, 0))
    z, y, x = study.spacing
    affine = np.diag([-x, -y, z, 1.0])
    affine[:3, 3] = (-study.origin[0], -study.origin[1], study.origin[2])
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), 6, mtime=0)
