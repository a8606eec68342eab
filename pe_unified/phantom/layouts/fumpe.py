"""Synthetic studies in the layout of FUMPE: numbered DICOM files and MATLAB masks.

The quirks are kept: mask slice k belongs to the k-th file by natural sort of the names, not by
position or InstanceNumber; for some patients the files run from the head down, for others up; some
patients' file names are not padded (D2 before D10); some masks are MATLAB v7.3.
"""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import savemat

from pe_unified.files import appearing_folder, write_bytes
from pe_unified.phantom.layouts.dicom_slices import write_series
from pe_unified.phantom.study import PhantomStudy

#: Patients of the real set without an embolus.
EMPTY_PATIENTS = (24, 32)
_REAL_PATIENTS = 35


def is_positive(number: int) -> bool:
    """Whether patient ``number`` (from 1) has emboli by default."""
    return (number - 1) % _REAL_PATIENTS + 1 not in EMPTY_PATIENTS


def _mat_v5(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, {"Mask": mask}, do_compression=True)
    # The first 116 bytes are free text, into which scipy writes the time.
    header = b"MATLAB 5.0 MAT-file, Platform: PHANTOM".ljust(116)
    return header + buffer.getvalue()[116:]


def _mat_v73(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512, libver="earliest") as file:
        # MATLAB stores columns first: the axes appear in reverse order in HDF5.
        data = file.create_dataset(
            "Mask", data=np.ascontiguousarray(mask.T), compression="gzip", chunks=True
        )
        data.attrs["MATLAB_class"] = np.bytes_("uint8")
    content = bytearray(buffer.getvalue())
    content[:128] = b"MATLAB 7.3 MAT-file, Platform: PHANTOM".ljust(116) + b"\0" * 8 + b"\x00\x02IM"
    return bytes(content)


def write_study(
    out: Path, number: int, study: PhantomStudy, *, transfer_syntax: str = "explicit"
) -> dict[str, Any]:
    """Write patient ``number`` (from 1): ``CT_scans/PATnnn/`` and ``GroundTruth/PATnnn.mat``."""
    patient = f"PAT{number:03d}"
    rng = study.plan.rng("fumpe")
    padded, head_first, by_position = rng.random() < 0.7, rng.random() < 0.6, rng.random() < 0.3
    count = len(study.hu)
    place = np.arange(count)[::-1] if head_first else np.arange(count)
    names = [f"D{p + 1:04d}.dcm" if padded else f"D{p + 1}.dcm" for p in place]
    instances = list(range(1, count + 1)) if by_position else [int(p) + 1 for p in place]
    in_file_order = study.emboli[np.argsort(place)] > 0
    mask = np.ascontiguousarray(in_file_order.transpose(1, 2, 0)).astype(np.uint8)
    content = _mat_v73(mask) if rng.random() < 0.35 else _mat_v5(mask)
    write_bytes(out / "GroundTruth" / f"{patient}.mat", content)
    folder = out / "CT_scans" / patient
    with appearing_folder(folder) as partial:
        write_series(
            partial,
            study,
            names,
            patient=patient,
            person=f"PHANTOM^{number:03d}",
            instance_numbers=instances,
            transfer_syntax=transfer_syntax,
        )
    return {"patient_id": patient, "files_from_the_head": bool(head_first)}
