"""Checks that the inputs of a command exist and that its output is not inside them."""

from pathlib import Path

from pe_unified.errors import DataError


def require_there(*inputs: Path) -> None:
    """Refuse inputs that do not exist.

    Raises:
        DataError: names the first of them.
    """
    for path in inputs:
        if not path.exists():
            raise DataError(path, "no such file or folder", "check the path")


def require_folder(path: Path, cure: str) -> None:
    """Refuse what is not a folder.

    Raises:
        DataError: names it.
    """
    if not path.is_dir():
        reason = "a file, not a folder" if path.exists() else "no such folder"
        raise DataError(path, reason, cure)


def require_apart(out: Path, *inputs: Path) -> None:
    """Refuse missing inputs, and an output inside an input: the next run would read it.

    Raises:
        DataError: names the missing input, or the output.
    """
    require_there(*inputs)
    for path in inputs:
        if out.resolve().is_relative_to(path.resolve()):
            reason = f"lies in '{path}', which is read: the next run would take it for input"
            raise DataError(out, reason, "choose another place for the output")
