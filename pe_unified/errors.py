"""Errors that a user can fix: what is wrong, where, and what to do about it."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

#: What to do about a damaged file, and about one of many.
COPY_AGAIN = "copy the file again from the source"
COPY_OR_REMOVE = f"{COPY_AGAIN}, or remove it on purpose"
#: From the first quote to the last, or to the end: a name may contain quotes, or be cut off.
_QUOTED = re.compile("'(.*'|.*$)", re.DOTALL)
#: Characters; longer reasons quote the content of a damaged file.
_LONGEST = 300


class UserError(Exception):
    """The message says in one line what is wrong and what to do; no traceback is needed."""


def one_line(text: str) -> str:
    """Text for one line of a terminal: no line breaks or control characters, limited length."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    shown = " ".join(shown.split())
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without the path of a system error.

    Such a path may contain a patient's name.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


def shown(name: str | os.PathLike) -> str:
    """A file's name for a terminal; characters that cannot be printed become ``?``."""
    return "".join(letter if letter.isprintable() else "?" for letter in os.fspath(name))


def pip_install(extra: str = "") -> str:
    """The command that installs this package, with an extra, over a clone or an installed wheel."""
    is_clone = Path(__file__).parents[1].joinpath("pyproject.toml").is_file()
    name = "." if is_clone else "pe_unified"
    wanted = f"'{name}[{extra}]'" if extra else name
    return f"pip install -e {wanted}" if is_clone else f"pip install {wanted}"


def listed(items: Sequence[object], most: int = 5, between: str = ", ") -> str:
    """The first items, and how many more there are."""
    more = len(items) - most
    return between.join(map(str, items[:most])) + (f" and {more} more" if more > 0 else "")


def counted(number: int, noun: str) -> str:
    """``1 case``, ``2 cases``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def unnamed(text: str) -> str:
    """The text without the names that are quoted in it."""
    return _QUOTED.sub("'...'", text)


class DataError(UserError, ValueError):
    """A file or a patient that cannot be used.

    Attributes:
        where: the file, the folder or the patient.
        reason: what is wrong with it, in one line; names of files in it are quoted.
        cure: what the user can do.
        detail: message of the system or a library, which may contain any name; part of the
            reason.
    """

    def __init__(
        self, where: str | os.PathLike, reason: str, cure: str, detail: BaseException | str = ""
    ):
        self.where = os.fspath(where)
        self.detail = first_line(detail) if isinstance(detail, BaseException) else detail
        self._plain = reason
        self.reason = one_line(f"{reason} ({self.detail})" if self.detail else reason)
        self.cure = cure
        super().__init__(f"{shown(where)}: {self.reason}; {cure}")

    def at(self, where: str | os.PathLike) -> "DataError":
        """The same error for another place."""
        return DataError(where, self._plain, self.cure, self.detail)

    def without_names(self) -> str:
        """Reason and cure without the name of any file, folder or patient."""
        # Names are removed first: cutting a long text may remove the last quote.
        return "; ".join(one_line(unnamed(said)) for said in (self._plain, self.cure))

    def __reduce__(self) -> tuple:
        # The default would call the class with the formatted message only.
        return type(self), (self.where, self._plain, self.cure, self.detail)


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that cannot be read, or is refused as unsafe."""
