"""Recognises files next to slices that are not slices: notes, images, viewers and libraries."""

import re
from pathlib import Path

from pe_unified.ct.dicom_file import open_binary
from pe_unified.errors import DataError

#: Patterns of file endings: texts, settings, images, programs, archives and volumes.
_ENDINGS = (
    "txt rtf md pdf docx? xlsx? csv tsv json xml html? css js log ini inf cfg ya?ml lnk url plist "
    "db sqlite mat png jpe?g gif bmp ico icns tiff? svg avi mp4 "
    "exe dll so dylib jar class app chm hlp msi cab ocx sys py sh bat cmd command "
    "zip 7z rar tgz tar(?:[.](?:bz2|xz))? nii nrrd nhdr raw zraw mha mhd"
)
_COMPANION = re.compile(rf"\.(?:{_ENDINGS.replace(' ', '|')})(?:\.gz)?$", re.IGNORECASE)
#: Possible endings of a slice file.
_SLICE = re.compile(r"\.(?:dcm|dicom|dic|ima|img)(?:\.gz)?$", re.IGNORECASE)
#: First bytes of programs, archives, images and documents.
_SIGNATURES = (
    *(b"MZ", b"\x7fELF", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe"),
    *(b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf", b"MSCF", b"ITSF", b"\xd0\xcf\x11\xe0", b"SQLite"),
    *(b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"\0\0\x01\0", b"icns", b"bplist"),
    *(b"L\0\0\0\x01\x14\x02\0", b"Bud1", b"\0\0\0\x01Bud1", b"\xff\xfe", b"\xfe\xff"),
)
#: Control characters that do not occur in texts.
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_LOOKED_AT = 4096


def is_companion(path: Path) -> bool:
    """Whether the name alone shows that a file is not a slice."""
    return _COMPANION.search(path.name) is not None or path.name.upper() == "DICOMDIR"


def is_no_slice(path: Path) -> bool:
    """Whether the content shows that a file, which cannot be read as DICOM, never was a slice.

    A file that is named like a slice, is empty, or has unknown content may be a damaged slice.
    """
    if _SLICE.search(path.name):
        return False
    try:
        with open_binary(path) as file:
            start = file.read(_LOOKED_AT)
    except (OSError, DataError):
        return False
    if start[128:132] == b"DICM" or not start:
        return False
    return start.startswith(_SIGNATURES) or _NO_TEXT.search(start) is None
