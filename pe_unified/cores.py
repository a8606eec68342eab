"""How many processors there are to work with."""

import os


def usable_cores() -> int:
    """Cores that this process may use, which may be fewer than there are (``taskset``)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
