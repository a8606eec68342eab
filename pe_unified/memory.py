"""Memory that a process keeps, gives back, or never takes."""

import ctypes
import math
import mmap

import numpy as np

#: Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Larger blocks come from the system and go back to it, bytes; older versions refuse the first.
_MMAP_ABOVE = (1 << 30, 32 << 20)


def keep_freed_memory() -> bool:
    """Let the process keep memory that it freed, instead of giving it back and fetching it anew.

    The tensors of a batch are as large as those of the last one. By default glibc returns each to
    the system and the next touch fetches it page by page. The process's peak memory stays with it
    until it ends.

    Returns:
        whether the C library does so. Of a glibc before 2.35 only blocks up to 32 MiB are kept.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    kept = any(mallopt(_MMAP_THRESHOLD, most) for most in _MMAP_ABOVE)
    return bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1)) and kept


def give_back_freed_memory() -> bool:
    """Return to the system what the process has freed and kept, once, between two stages of work.

    Returns:
        whether anything was returned.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):
        return False


def sparse_zeros(shape: tuple[int, ...]) -> np.ndarray:
    """uint8 zeros that take memory only where they are written to, by pages of 4 KiB.

    :func:`numpy.zeros` may take pages of 2 MiB, or memory that was freed and has to be cleared.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    block = mmap.mmap(-1, max(1, math.prod(shape)), flags=flags)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        block.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(block, np.uint8, math.prod(shape)).reshape(shape)
