"""How the process treats memory that is free again."""

import ctypes

#: Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Let the process keep memory that it freed, instead of giving it back and fetching it anew.

    The tensors of a batch are as large as those of the last one. By default glibc returns each to
    the system and the next touch fetches it page by page. The process's peak memory stays with it
    until it ends.

    Returns:
        whether the C library does so; only glibc knows how.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))
