"""Control over when a process allocates memory, keeps it, and returns it."""

import ctypes
import math
import mmap

import numpy as np

#: Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Bytes; larger blocks are returned to the system when freed. Older versions refuse the first.
_MMAP_ABOVE = (1 << 30, 32 << 20)


def keep_freed_memory() -> bool:
    """Let the process keep freed memory instead of returning it and requesting it again.

    The tensors of a batch are as large as those of the previous one. By default glibc returns
    each to the system, and the next use requests it again page by page. The process then keeps
    its peak memory until it ends.

    Returns:
        whether the C library does so. A glibc before 2.35 keeps only blocks up to 32 MiB.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    kept = any(mallopt(_MMAP_THRESHOLD, most) for most in _MMAP_ABOVE)
    return bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1)) and kept


def give_back_freed_memory() -> bool:
    """Return freed memory that the process keeps to the system, between two stages of work.

    Returns:
        whether anything was returned.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):
        return False


def sparse_zeros(shape: tuple[int, ...]) -> np.ndarray:
    """uint8 zeros that use memory only where they are written to, in pages of 4 KiB.

    :func:`numpy.zeros` may use pages of 2 MiB, or freed memory that has to be cleared.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    block = mmap.mmap(-1, max(1, math.prod(shape)), flags=flags)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        block.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(block, np.uint8, math.prod(shape)).reshape(shape)
