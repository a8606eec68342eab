"""Data loaders whose processes end with their parent, and that report why they fail."""

import multiprocessing.queues
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from pe_unified.errors import UserError, one_line
from pe_unified.workers import begin_worker, interrupts_deferred

#: Longest wait for a batch, seconds, if the config gives the loader no ``timeout``.
PATIENCE = 300
#: Through this folder the processes of a loader pass on their batches.
SHARED_MEMORY = Path("/dev/shm")
#: With fewer open files, batches on their way can exhaust them.
_FEW_FILES = 1024


class LoaderError(UserError, RuntimeError):
    """A process that loads data ended or gave no batch; the message says what to change."""


def shared_memory() -> tuple[float, float] | None:
    """Free and total size of shared memory, GB; None if there is no such folder."""
    if not SHARED_MEMORY.is_dir():
        return None
    usage = shutil.disk_usage(SHARED_MEMORY)
    return usage.free / 1e9, usage.total / 1e9


class _WatchedLoader(DataLoader):
    """Defers Ctrl-C while its processes start: half-started ones could not be ended."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        with interrupts_deferred():
            return super().__iter__()


def watch_loader(loader: DataLoader) -> None:
    """Make the loader's processes end with this one, and limit the wait for a batch."""
    if loader.num_workers:
        loader.__class__ = _WatchedLoader  # mmengine builds a DataLoader
        loader.timeout = loader.timeout or PATIENCE
        loader.worker_init_fn = partial(_begin, loader.worker_init_fn)
    else:
        loader.timeout = 0  # the only value that torch accepts without processes


def end_loader(loader: DataLoader) -> None:
    """End the processes that wait for the loader's next pass.

    Otherwise the garbage collector may close their queues first and wait 5 s for each of them.
    """
    if loader._iterator is not None:
        loader._iterator._shutdown_workers()  # type: ignore[attr-defined]
        loader._iterator = None


@contextmanager
def loaders_tell() -> Iterator[None]:
    """Turn torch's errors about a loader's processes into messages for the user.

    Raises:
        LoaderError: a process ended, or gave no batch in time.
    """
    try:
        yield
    except RuntimeError as error:
        late = re.match(r"DataLoader timed out after (\d+)", str(error))
        if late:
            what = f"the processes that load data delivered no batch for {late.group(1)} s"
        elif re.match(r"DataLoader worker \(pid.* (exited|is killed)", str(error)):
            what = "a process that loads data ended before it had delivered its batch"
        else:
            raise
        room = shared_memory()
        where = f", of which {room[0]:.2f} of {room[1]:.2f} GB are free" if room else ""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        few = f" Batches also take open files, of which {files} are allowed: ulimit -n 4096."
        raise LoaderError(
            f"{what}.{few if files < _FEW_FILES else ''} Batches pass through {SHARED_MEMORY}"
            f"{where}: make it larger (docker run --shm-size 8g), or load in the training's own "
            "process (num_workers=0). A slow disk may need more time "
            "(train_dataloader.timeout=1800). If memory is full, lower num_workers"
        ) from error


def _begin(then: Callable[[int], Any] | None, number: int) -> None:
    begin_worker()
    # By default Python prints a traceback and drops the batch, and training waits for it.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end)  # type: ignore
    if then is not None:
        then(number)


def _end(error: Exception, _: object) -> None:
    print(f"a batch cannot be delivered: {one_line(str(error))}", file=sys.stderr, flush=True)
    os._exit(1)
