"""Lists the studies in a folder."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pe_unified.ct.companions import is_companion
from pe_unified.ct.detached import data_file_of
from pe_unified.ct.headers import natural_key, read_headers
from pe_unified.errors import DataError, shown
from pe_unified.options import STUDY_ENDINGS, STUDY_FILES
from pe_unified.paths import require_folder


def find_studies(root: Path) -> list[Path]:
    """Every subfolder of ``root``, and every file in it that is multi-frame CT or ends in one of
    :data:`~pe_unified.options.STUDY_FILES`, in natural order.

    Raises:
        DataError: not a folder, or it holds no studies.
    """
    require_folder(root, "point to a folder of studies")
    found = [path for path in _visible(root) if path.is_dir() or _is_study_file(path)]
    if not found:
        cure = f"put each study into a folder of its own, or a file ending in {STUDY_ENDINGS}"
        raise DataError(root, "no study in it", cure)
    return found


def _visible(root: Path) -> list[Path]:
    paths = (path for path in root.iterdir() if not path.name.startswith("."))
    return sorted(paths, key=lambda path: natural_key(path.name))


def _is_study_file(path: Path) -> bool:
    return path.name.lower().endswith(STUDY_FILES) or _holds_many_slices(path)


def _holds_many_slices(path: Path) -> bool:
    """Whether a file is a multi-frame CT; a single slice is not a study."""
    if is_companion(path) or not path.is_file():
        return False
    with suppress(DataError):
        return read_headers(path)[0].frame is not None
    return False


def skipped_files(root: Path, studies: Sequence[Path]) -> list[str]:
    """Names of the entries of a folder that are neither studies nor data files of a header."""
    known = set(studies)
    for study in studies:
        with suppress(DataError):  # analysing it gives the message
            known.add(data_file_of(study))
    return [shown(path.name) for path in _visible(root) if path not in known]
