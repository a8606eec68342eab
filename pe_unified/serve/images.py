"""The slices of open studies in Hounsfield units, unpacked once into a file."""

import os
import tempfile
import threading
from collections import OrderedDict
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np

from pe_unified.ct.study import CTStudy
from pe_unified.errors import DataError
from pe_unified.review.sources import Source

#: Number of studies kept unpacked; one of 600 slices takes 300 MB of disk.
_KEPT = 8


class ClosedError(DataError):
    """A study was closed while it was read, because others were opened."""


class StudyImages:
    """One study, whose slices are unpacked in the background, requested ones first.

    Args:
        opening: the study.
        scratch: folder for the unpacked slices. They are in an unnamed file, which disappears
            however the process ends. None: the folder for temporary files.

    Raises:
        DataError: it cannot be read.
    """

    def __init__(
        self, opening: AbstractContextManager[tuple[CTStudy, Source]], scratch: Path | None = None
    ) -> None:
        self._scratch = scratch or Path(tempfile.gettempdir())
        with ExitStack() as stack:
            self.study, _ = stack.enter_context(opening)
            try:
                self._file = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
            except OSError as error:
                raise self._no_room(error) from error
            self._closing = stack.pop_all()
        self._lock = threading.Lock()
        self._closed = False
        self._filled = np.zeros(len(self.study), bool)
        self._wanted = 0
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def slices(self, first: int, last: int) -> bytes:
        """Slices ``first`` to ``last`` (exclusive): int16, little-endian, (slices, rows, cols).

        Raises:
            ClosedError: the study was closed in the meantime, to make room for others.
            DataError: the pixels cannot be read, or there is no room to unpack them.
        """
        self._wanted = first
        for index in range(first, last):
            self._unpack(index)
        with self._lock:
            if self._closed:
                raise ClosedError(self.study.source, "was closed while it was read", "ask again")
            return os.pread(self._file.fileno(), (last - first) * self._size, first * self._size)

    @property
    def _size(self) -> int:
        """Bytes per slice."""
        return 2 * self.study.shape[1] * self.study.shape[2]

    def _unpack(self, index: int) -> None:
        if self._filled[index]:
            return
        with self._lock:
            if self._filled[index] or self._closed:
                return
            pixels = self.study.slice_hu(index).astype("<i2").tobytes()
            try:
                written = os.pwrite(self._file.fileno(), pixels, index * self._size)
            except OSError as error:
                raise self._no_room(error) from error
            if written < len(pixels):
                raise self._no_room("the disk is full")
            self._filled[index] = True

    def _no_room(self, why: OSError | str) -> DataError:
        cure = "make room there, or serve with --cache DIR"
        return DataError(self._scratch, "slices cannot be unpacked here", cure, why)

    def _fill(self) -> None:
        """Unpack the remaining slices, those nearest to the last requested ones first."""
        while not self._closed:
            (missing,) = np.nonzero(~self._filled)
            if not len(missing):
                return
            try:
                self._unpack(int(missing[np.argmin(np.abs(missing - self._wanted))]))
            except DataError:  # reported when the slice is requested
                return

    def close(self) -> None:
        """Release everything, including the unpacked slices."""
        self._closed = True
        self._thread.join()
        with self._lock:
            self._closing.close()


class ImageCache:
    """The most recently read studies; use it as a context manager.

    Args:
        folder: for unpacked slices; None: the folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._scratch = folder
        self._open: OrderedDict[tuple[str, tuple[int, int]], StudyImages] = OrderedDict()
        self._lock = threading.Lock()
        self._opening: dict[tuple[str, tuple[int, int]], threading.Lock] = {}

    def __enter__(self) -> "ImageCache":
        return self

    def __exit__(self, *_: object) -> None:
        for images in self._open.values():
            images.close()

    def get(
        self,
        key: str,
        stamp: tuple[int, int],
        opening: AbstractContextManager[tuple[CTStudy, Source]],
    ) -> StudyImages:
        """The images of a report, opened if necessary.

        Args:
            key: of the report.
            stamp: of the report; changes when the report is written again.
            opening: the study that the report was made from.

        Raises:
            DataError: see :class:`StudyImages`.
        """
        whole = (key, stamp)
        with self._lock:
            opened = self._opening.setdefault(whole, threading.Lock())
        with opened:
            known = self.known(key, stamp)
            if known is not None:
                return known
            images = StudyImages(opening, self._scratch)
            with self._lock:
                self._open[whole] = images
                leaving = self._open.popitem(last=False)[1] if len(self._open) > _KEPT else None
        if leaving is not None:
            leaving.close()
        return images

    def known(self, key: str, stamp: tuple[int, int]) -> StudyImages | None:
        """The images of a report, if they are open."""
        whole = (key, stamp)
        with self._lock:
            if whole in self._open:
                self._open.move_to_end(whole)
            return self._open.get(whole)
