"""Finds the data file of a header that is stored separately."""

import os
import re
from pathlib import Path

from pe_unified.errors import COPY_AGAIN, DataError
from pe_unified.options import META_IMAGE, NRRD

#: Maximum length of a header, bytes.
_LONGEST_HEADER = 1 << 20
#: End of a NRRD header; a MetaImage header ends with the name of the data file.
_END = re.compile(rb"\r?\n\r?\n")
_NAMED = re.compile(rb"^[ \t]*(?:ElementDataFile[ \t]*=|data ?file:(?!=))([^\r\n]*)", re.I | re.M)
#: How both formats name several files: one on each following line, or a pattern with numbers.
_SEVERAL = re.compile(r"LIST\b.*|.*%.*\s\d+\s+\d+.*", re.I)


def data_file_of(path: Path) -> Path:
    """The file that holds the data of a volume: the one named in its header, else itself.

    Raises:
        DataError: it cannot be read, does not exist, is outside the header's folder, or the data
            are in several files.
    """
    if not path.name.lower().endswith((*META_IMAGE, *NRRD)):
        return path
    try:
        with open(path, "rb") as file:
            header = _END.split(file.read(_LONGEST_HEADER), maxsplit=1)[0]
    except OSError as error:
        raise DataError(path, "cannot be read", "make it readable for this user", error) from error
    found = _NAMED.search(header)
    name = os.fsdecode(found[1].strip()) if found else ""
    if name.upper() in ("", "LOCAL"):
        return path
    data = path.parent / name
    try:
        beside, there = data.resolve().is_relative_to(path.parent.resolve()), data.is_file()
    except (OSError, ValueError):  # a name that no file can have
        beside, there = True, False
    if not beside:
        raise DataError(
            path, f"its data file '{name}' lies elsewhere", "put it into the same folder"
        )
    if there:
        return data
    if _SEVERAL.fullmatch(name):
        raise DataError(path, "its data lie in several files", "save it as one .mha or .nrrd file")
    raise DataError(path, f"no data file '{name}' beside it", COPY_AGAIN)
