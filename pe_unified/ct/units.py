"""What the pixels of a CT image count: Hounsfield units, or milligrams of iodine."""

from contextlib import suppress

import pydicom

from pe_unified.errors import one_line

#: How files name Hounsfield units, or say nothing of the unit (US: unspecified).
_HOUNSFIELD = ("", "HU", "US", "UNSPECIFIED", "HNSF'U", "HOUNSFIELD", "HOUNSFIELD UNITS")


def other_unit(rescale_type: str, dataset: pydicom.Dataset) -> str:
    """The unit of the pixels, where the file says that it is not Hounsfield units; else empty.

    A map of a material names its unit as the type of the rescale (DICOM PS3.3, C.11.1.1.2: MGML,
    Z_EFF, HU_MOD, ...), or in the code of its real world value mapping.
    """
    if not _is_hounsfield(rescale_type):
        return one_line(rescale_type)[:16]
    codes: list[str] = []
    with suppress(Exception):  # what cannot be read says nothing
        for mapping in dataset.get("RealWorldValueMappingSequence") or ():
            codes.append(str(mapping.MeasurementUnitsCodeSequence[0].CodeValue))
    if any(map(_is_hounsfield, codes)):
        return ""
    return one_line(codes[0])[:16] if codes else ""


def _is_hounsfield(said: str) -> bool:
    return said.upper().strip(" []") in _HOUNSFIELD
