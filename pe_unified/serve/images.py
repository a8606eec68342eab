"""The slices of studies that are being read: Hounsfield units, unpacked once into a file."""

import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.ct.opening import open_study
from pe_unified.ct.study import CTStudy
from pe_unified.errors import DataError
from pe_unified.review.sources import Source

#: Studies kept unpacked; one of 600 slices takes 300 MB of disk.
_KEPT = 8


class StudyImages:
    """One study, whose slices are unpacked in the background, those asked for first.

    Args:
        source: where it lies, and which series it is.
        report: what was made from it.
        scratch: folder for the unpacked slices.

    Raises:
        DataError: it cannot be read, or is not what the report was made from.
    """

    def __init__(self, source: Source, report: Mapping[str, Any], scratch: Path) -> None:
        self._closing = ExitStack()
        self._lock = threading.Lock()
        self._closed = False
        opening = open_study(source.path, source.series_uid, study_uid=source.study_uid)
        self.study = self._closing.enter_context(opening)
        try:
            _require_same(self.study, report)
            handle, name = tempfile.mkstemp(suffix=".i16", dir=scratch)
            os.close(handle)
            self._file = Path(name)
            self._hu = np.memmap(self._file, np.int16, "w+", shape=self.study.shape)
        except BaseException:
            self._closing.close()
            raise
        self._filled = np.zeros(len(self.study), bool)
        self._wanted = 0
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def slices(self, first: int, last: int) -> bytes:
        """Slices from ``first`` to before ``last``: int16, little-endian, (slices, rows, cols).

        Raises:
            DataError: the pixels cannot be read.
        """
        self._wanted = first
        for index in range(first, last):
            self._unpack(index)
        return np.ascontiguousarray(self._hu[first:last], dtype="<i2").tobytes()

    def _unpack(self, index: int) -> None:
        if self._filled[index]:
            return
        with self._lock:
            if not self._filled[index] and not self._closed:
                self._hu[index] = self.study.slice_hu(index)
                self._filled[index] = True

    def _fill(self) -> None:
        """The slices that nobody has asked for, nearest first to what somebody has."""
        while not self._closed:
            (missing,) = np.nonzero(~self._filled)
            if not len(missing):
                return
            try:
                self._unpack(int(missing[np.argmin(np.abs(missing - self._wanted))]))
            except DataError:  # who asks for the slice is told
                return

    def close(self) -> None:
        """Forget it all, the unpacked slices included."""
        self._closed = True
        self._thread.join()
        with self._lock:
            self._closing.close()
        self._file.unlink(missing_ok=True)


class ImageCache:
    """The studies that were opened last; use it as a context.

    Args:
        folder: where unpacked slices go, in a folder that is gone at the end; None: where
            temporary files go.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="pe-unified-serve-", dir=folder))
        self._open: OrderedDict[tuple[str, tuple[int, int]], StudyImages] = OrderedDict()
        self._lock = threading.Lock()
        self._opening: dict[tuple[str, tuple[int, int]], threading.Lock] = {}

    def __enter__(self) -> "ImageCache":
        return self

    def __exit__(self, *_: object) -> None:
        for images in self._open.values():
            images.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def get(
        self,
        key: str,
        stamp: tuple[int, int],
        sources: Iterable[Source],
        report: Mapping[str, Any],
    ) -> StudyImages:
        """The images of a report, opened if they are not.

        Args:
            key: of the report.
            stamp: of the report; another one means another report.
            sources: where the study may lie; the first that is the report's is taken.
            report: what was made from it.

        Raises:
            DataError: see :class:`StudyImages`.
        """
        whole = (key, stamp)
        with self._lock:
            opening = self._opening.setdefault(whole, threading.Lock())
        with opening:
            with self._lock:
                if whole in self._open:
                    self._open.move_to_end(whole)
                    return self._open[whole]
            images = self._first(sources, report)
            with self._lock:
                self._open[whole] = images
                leaving = self._open.popitem(last=False)[1] if len(self._open) > _KEPT else None
        if leaving is not None:
            leaving.close()
        return images

    def _first(self, sources: Iterable[Source], report: Mapping[str, Any]) -> StudyImages:
        failure: DataError | None = None
        try:
            for source in sources:
                try:
                    return StudyImages(source, report, self._scratch)
                except DataError as error:
                    failure = failure or error
        except DataError as error:  # nowhere; a place that was likely tells more
            raise failure or error from error
        assert failure is not None
        raise failure

    def known(self, key: str, stamp: tuple[int, int]) -> StudyImages | None:
        """The images of a report if they are open."""
        with self._lock:
            return self._open.get((key, stamp))


def _require_same(study: CTStudy, report: Mapping[str, Any]) -> None:
    """Refuse images that are not those of the report: every mark would lie elsewhere."""
    given = report["input"]
    same = study.shape == (given["slices"], given["rows"], given["cols"])
    uids = tuple(each["sop_uid"] for each in report["slices"])
    if same and study.sop_uids and all(uids) and not report["settings"]["pseudonymised"]:
        same = study.sop_uids == uids
    if not same:
        reason = "the images are not those that the report was made from"
        raise DataError(study.source, reason, "analyse the study again")
