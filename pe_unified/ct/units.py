"""The unit of the pixels of a CT image: Hounsfield units, or for example milligrams of iodine."""

from contextlib import suppress

import pydicom

from pe_unified.errors import one_line

#: Names of Hounsfield units in files, including an unspecified unit (US).
_HOUNSFIELD = ("", "HU", "US", "UNSPECIFIED", "HNSF'U", "HOUNSFIELD", "HOUNSFIELD UNITS")


def other_unit(rescale_type: str, dataset: pydicom.Dataset) -> str:
    """The unit of the pixels if the file says that it is not Hounsfield units; else empty.

    A map of a material states its unit as the rescale type (DICOM PS3.3, C.11.1.1.2: MGML, Z_EFF,
    HU_MOD, ...), or in the code of its real world value mapping.
    """
    if not _is_hounsfield(rescale_type):
        return one_line(rescale_type)[:16]
    codes: list[str] = []
    with suppress(Exception):  # unreadable values count as missing
        for mapping in dataset.get("RealWorldValueMappingSequence") or ():
            codes.append(str(mapping.MeasurementUnitsCodeSequence[0].CodeValue))
    if any(map(_is_hounsfield, codes)):
        return ""
    return one_line(codes[0])[:16] if codes else ""


def _is_hounsfield(said: str) -> bool:
    return said.upper().strip(" []") in _HOUNSFIELD
