"""Synthetic studies in the layout of READ: DICOM of two makers, NIfTI masks.

The quirks are kept: arrays of image and mask are aligned by index, slices in ascending position,
although the mask's header states that they run downwards, and its slice spacing is rounded.
"""

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from pe_unified.files import appearing_folder, write_bytes
from pe_unified.phantom.layouts.dicom_slices import write_series
from pe_unified.phantom.study import PhantomStudy

#: Every real case has emboli; this is the default share.
POSITIVE_RATE = 1.0
_MAKERS = (
    ("GE (DICOM files)", "GE", "GE MEDICAL SYSTEMS"),
    ("TOSHIBA (DICOM files)", "TS", "TOSHIBA"),
)


def _nifti(study: PhantomStudy) -> bytes:
    mask = np.asfortranarray((study.emboli > 0).astype(np.uint8).transpose(2, 1, 0))
    z, y, x = study.spacing
    rounded = max(round(z, 1), 0.1)
    # RAS: x and y are reversed, and z runs the wrong way, from the top slice's height.
    affine = np.diag([-x, -y, -rounded, 1.0])
    affine[:3, 3] = (-study.origin[0], -study.origin[1], study.origin[2] + z * (len(study.hu) - 1))
    image = nibabel.Nifti1Image(mask, affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), 6, mtime=0)


def write_study(
    out: Path, number: int, study: PhantomStudy, *, transfer_syntax: str = "explicit"
) -> dict[str, Any]:
    """Write case ``number`` (from 1): odd ones as GE, even ones as Toshiba."""
    place, short, manufacturer = _MAKERS[(number - 1) % 2]
    case = f"{(number + 1) // 2:02d}{short}"
    write_bytes(out / f"{case}.nii.gz", _nifti(study))
    folder = out / place / case
    with appearing_folder(folder) as partial:
        write_series(
            partial,
            study,
            [f"IM{k + 1:04d}.dcm" for k in range(len(study.hu))],
            patient=case,
            person=f"PHANTOM^{case}",
            manufacturer=manufacturer,
            transfer_syntax=transfer_syntax,
        )
    return {"patient_id": case}
