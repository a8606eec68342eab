"""Synthetic studies in the layout of CAD-PE: NRRD volumes, one integer per embolus.

Some cases have plain numbers (``images/001.nrrd``, with labels padded to four digits), some an
``e`` and four digits, as in the real set.
"""

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.files import write_bytes
from pe_unified.phantom.study import PhantomStudy

#: Every real case has emboli; this is the default share.
POSITIVE_RATE = 1.0


def case_name(number: int) -> str:
    """Name of case ``number`` (from 1): "001", "002", "e0003", "004" and so on."""
    return f"e{number:04d}" if number % 3 == 0 else f"{number:03d}"


def _nrrd(volume: np.ndarray, study: PhantomStudy) -> bytes:
    """A volume (slices, rows, cols) as NRRD: columns first, LPS, gzip.

    Not written with pynrrd, which puts the current time into the header.
    """
    kinds = {"int16": "int16", "uint8": "uint8"}
    (z, y, x), (ox, oy, oz) = study.spacing, study.origin
    slices, rows, cols = volume.shape
    header = "\n".join(
        [
            "NRRD0004",
            "# Painted CT pulmonary angiogram, not a patient",
            f"type: {kinds[volume.dtype.name]}",
            "dimension: 3",
            "space: left-posterior-superior",
            f"sizes: {cols} {rows} {slices}",
            f"space directions: ({x:.6g},0,0) (0,{y:.6g},0) (0,0,{z:.6g})",
            "kinds: domain domain domain",
            "endian: little",
            "encoding: gzip",
            f"space origin: ({ox:.6g},{oy:.6g},{oz:.6g})",
        ]
    )
    little = np.ascontiguousarray(volume.astype(volume.dtype.newbyteorder("<"), copy=False))
    return header.encode() + b"\n\n" + gzip.compress(little.tobytes(), 4, mtime=0)


def write_study(out: Path, number: int, study: PhantomStudy) -> dict[str, Any]:
    """Write case ``number`` (from 1): ``images/NNN.nrrd`` and ``rs/NNNNRefStd.nrrd``."""
    case = case_name(number)
    label = case if case.startswith("e") else case.zfill(4)
    write_bytes(out / "rs" / f"{label}RefStd.nrrd", _nrrd(study.emboli, study))
    write_bytes(out / "images" / f"{case}.nrrd", _nrrd(study.hu, study))
    return {"patient_id": case}
