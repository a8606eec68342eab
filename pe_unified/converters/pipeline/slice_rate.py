"""Progress of a conversion: patients, slices, and the rate."""

import time

from pe_unified.progress import drop, say, tell


class ConversionProgress:
    """Counts what is done and prints it.

    Args:
        name: of the set.
        total: number of patients.
    """

    def __init__(self, name: str, total: int):
        self._name, self._total = name, total
        self._start = time.monotonic()
        self._slices = self._patients = 0

    def __enter__(self) -> "ConversionProgress":
        self._tell()
        return self

    def __exit__(self, *exc: object) -> None:
        drop(self._title)

    def slices_done(self, count: int) -> None:
        self._slices += count
        self._tell()

    def patient_done(self) -> None:
        self._patients += 1
        self._tell()

    def say(self, text: str) -> None:
        say(text)

    @property
    def _title(self) -> str:
        return f"{self._name}, patients"

    def _tell(self) -> None:
        rate = self._slices / max(1e-9, time.monotonic() - self._start)
        state = f"{self._slices} slices, {rate:.0f} slices/s"
        tell(self._title, self._patients, self._total, state)
