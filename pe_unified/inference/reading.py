"""Reading of slices with a cache, and ahead of the network."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from pe_unified.ct.study import CTStudy

#: Called with the number done and the total.
Progress = Callable[[int, int], None]

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

#: Size of the slice cache in bytes: 500 slices of 512 x 512.
CACHE_BYTES = 256 << 20


class SliceReader:
    """Reads slices of a study and caches those used last.

    Safe for use by several threads.

    Args:
        study: the study to read.
        cache_bytes: size of the cache; slices of a longer study are read again when needed.
    """

    def __init__(self, study: CTStudy, cache_bytes: int = CACHE_BYTES) -> None:
        self.study = study
        count, rows, cols = study.shape
        room = min(count, max(8, cache_bytes // (2 * rows * cols)))
        # One block: separately allocated slices would fragment the memory.
        self._kept = np.empty((room, rows, cols), np.int16)
        #: Position of each slice in the block; the slice used last is last.
        self._places: OrderedDict[int, int] = OrderedDict()
        self._lock = Lock()

    def hu(self, index: int) -> np.ndarray:
        """One slice, int16 (rows, cols), Hounsfield units.

        Raises:
            DataError: the pixels cannot be read.
        """
        with self._lock:
            if index in self._places:
                self._places.move_to_end(index)
                return self._kept[self._places[index]].copy()
        level = self.study.slice_hu(index)
        with self._lock:
            place = self._places.pop(index, len(self._places))
            if place == len(self._kept):
                _, place = self._places.popitem(last=False)
            self._places[index] = place
            self._kept[place] = level
        return level

    def stack(self, index: int, neighbours: int) -> np.ndarray:
        """A slice with its neighbours, int16 (rows, cols, slices); end slices are repeated."""
        last = len(self.study) - 1
        around = range(index - neighbours, index + neighbours + 1)
        return np.stack([self.hu(min(max(k, 0), last)) for k in around], axis=-1)


def ahead(
    make: Callable[[_Item], _Made], items: Iterable[_Item], depth: int = 2
) -> Iterator[_Made]:
    """``make`` of every item, in order, computed in a thread while the caller uses the last one.

    At most ``depth`` results wait. An error is raised in place of its result.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        waiting = [pool.submit(make, item) for item in islice(source, depth)]
        try:
            while waiting:
                done = waiting.pop(0).result()
                waiting += [pool.submit(make, item) for item in islice(source, 1)]
                yield done
        finally:
            for future in waiting:
                future.cancel()


def slice_of_study(
    reader: SliceReader, number: int, neighbours: int, box: tuple[int, int, int, int] | None
) -> dict[str, Any]:
    """A slice of a study as input for transforms.

    Args:
        reader: reader of the study.
        number: index of the slice, from the feet.
        neighbours: slices on each side, stacked with it.
        box: (x, y, w, h) around the lungs, in pixels of the slice; None for no crop.
    """
    rows, cols = reader.study.shape[1:]
    return {
        "hu": reader.stack(number, neighbours),
        "ori_shape": (rows, cols),
        "img_shape": (rows, cols),
        "crop_box": (0, 0, cols, rows),
        "scale_factor": (1.0, 1.0),
        "lung_box": box,
        "spacing_mm": reader.study.spacing_mm,
        "slice_index": number,
        "label": None,
        "boxes": None,
        "instance_map": None,
    }
