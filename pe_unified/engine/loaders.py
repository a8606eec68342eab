"""Data loaders whose processes end with their parent, and that tell when they cannot go on."""

import multiprocessing.queues
import os
import re
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

#: Longest wait for a batch, seconds, where the config gives the loader no ``timeout``.
PATIENCE = 300
#: Where the processes of a loader hand over their batches.
SHARED_MEMORY = Path("/dev/shm")


class LoaderError(UserError, RuntimeError):
    """The processes that load data ended, or gave nothing; the message says what to change."""


def shared_memory() -> tuple[float, float] | None:
    """Free and whole size of what processes share, GB; None where there is no such place."""
    if not SHARED_MEMORY.is_dir():
        return None
    usage = shutil.disk_usage(SHARED_MEMORY)
    return usage.free / 1e9, usage.total / 1e9


class _WatchedLoader(DataLoader):
    """Starts its processes undisturbed: half-started ones could not be put away."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        with interrupts_deferred():
            return super().__iter__()


def watch_loader(loader: DataLoader) -> None:
    """Give the loader's processes an end with this one, and the wait for a batch a limit."""
    if loader.num_workers:
        loader.__class__ = _WatchedLoader  # mmengine builds the plain one
        loader.timeout = loader.timeout or PATIENCE
        loader.worker_init_fn = partial(_begin, loader.worker_init_fn)
    else:
        loader.timeout = 0  # torch takes no other without processes


def end_loader(loader: DataLoader) -> None:
    """End the processes that wait for the loader's next pass.

    The garbage collector may close their queues first and then wait 5 s for each of them.
    """
    if loader._iterator is not None:
        loader._iterator._shutdown_workers()  # type: ignore[attr-defined]
        loader._iterator = None


@contextmanager
def loaders_tell() -> Iterator[None]:
    """What torch says of a loader's processes, in the user's words.

    Raises:
        LoaderError: one of them ended, or gave no batch in time.
    """
    try:
        yield
    except RuntimeError as error:
        late = re.match(r"DataLoader timed out after (\d+)", str(error))
        if late:
            what = f"the processes that load data gave no batch for {late.group(1)} s"
        elif re.match(r"DataLoader worker \(pid.* (exited|is killed)", str(error)):
            what = "a process that loads data ended before its batch was handed over"
        else:
            raise
        room = shared_memory()
        where = f", of which {room[0]:.2f} of {room[1]:.2f} GB are free" if room else ""
        raise LoaderError(
            f"{what}. Batches pass through {SHARED_MEMORY}{where}: make it larger (docker run "
            "--shm-size 8g), or load in the training's own process (num_workers=0). A slow disk "
            "may need more time (train_dataloader.timeout=1800), a full memory fewer num_workers"
        ) from error


def _begin(then: Callable[[int], Any] | None, number: int) -> None:
    begin_worker()
    # Python would print a traceback, drop the batch, and leave the training waiting for it.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end)  # type: ignore
    if then is not None:
        then(number)


def _end(error: Exception, _: object) -> None:
    print(f"a batch cannot be handed over: {one_line(str(error))}", file=sys.stderr, flush=True)
    os._exit(1)
