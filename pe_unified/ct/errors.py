"""One kind of error for files that cannot be used: what, why, and what to do about it."""

import os

#: Longer reasons quote what a damaged file holds.
_LONGEST = 300


def one_line(text: str) -> str:
    """Text fit for one line of a terminal: no line breaks, no control characters, not endless."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    shown = " ".join(shown.split())
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."


def first_line(error: BaseException) -> str:
    """What an error says, in short; without the path that the system's errors carry, which may
    hold a patient's name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


class DataError(ValueError):
    """A file or a patient that cannot be used.

    Attributes:
        where: the file, the folder or the patient.
        reason: what is wrong with it, in one line.
        cure: what the reader can do.
    """

    def __init__(self, where: str | os.PathLike, reason: str, cure: str):
        self.where = os.fspath(where)
        self.reason = one_line(reason)
        self.cure = cure
        shown = "".join(letter if letter.isprintable() else "?" for letter in self.where)
        super().__init__(f"{shown}: {self.reason}; {cure}")

    def __reduce__(self) -> tuple:
        # The default would call the class with the one formatted message.
        return type(self), (self.where, self.reason, self.cure)
