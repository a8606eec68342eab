"""One kind of error for files that cannot be used: what, why, and what to do about it."""

import os


class DataError(ValueError):
    """A file or a patient that cannot be used.

    Attributes:
        where: the file, the folder or the patient.
        reason: what is wrong with it.
        cure: what the reader can do.
    """

    def __init__(self, where: str | os.PathLike, reason: str, cure: str):
        self.where = os.fspath(where)
        self.reason = reason
        self.cure = cure
        super().__init__(f"{self.where}: {reason}; {cure}")

    def __reduce__(self) -> tuple:
        # The default would call the class with the one formatted message.
        return type(self), (self.where, self.reason, self.cure)
