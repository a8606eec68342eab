"""Headers of slices, without files."""

from pathlib import Path

from pe_unified.ct.headers import SliceHeader

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def header(k, z=None, **changes):
    fields = {
        "path": Path(f"D{k}.dcm"),
        "sop_uid": f"1.{k}",
        "series_uid": "s1",
        "study_uid": "st",
        "modality": "CT",
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "rows": 8,
        "cols": 8,
        "instance_number": k,
        "position": None if z is None else (-10.0, -20.0, float(z)),
        "orientation": AXIAL,
        "pixel_spacing": (0.7, 0.8),
    }
    return SliceHeader(**{**fields, **changes})
