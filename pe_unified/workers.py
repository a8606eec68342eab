"""Where the work runs: on which cores, in this process, in workers, or on a Dask cluster."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

#: How long to wait for a Dask scheduler, and for its first worker, seconds.
CONNECT_SECONDS, WORKER_SECONDS = 30, 60


def usable_cores() -> int:
    """Cores that this process may use, which may be fewer than there are (``taskset``)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class SerialExecutor(Executor):
    """Runs each task when it is submitted, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def open_executor(
    workers: int,
    scheduler: str | None = None,
    preload: Sequence[str] = (),
    isolated: bool = False,
) -> Iterator[tuple[Executor, int]]:
    """An executor and the number of tasks that it runs at once.

    Args:
        workers: processes on this machine; 1 works in this process, unless ``isolated``.
        scheduler: address of a running Dask scheduler, whose workers are used instead.
        preload: modules imported once for all workers, so that these start at once.
        isolated: keep a task that ends its process from ending this one.
    """
    if scheduler is not None:
        with _dask_executor(scheduler) as opened:
            yield opened
    elif workers <= 1 and not isolated:
        yield SerialExecutor(), 1
    else:
        pool = ProcessPoolExecutor(max(workers, 1), _context(preload), initializer=_start_worker)
        try:
            yield pool, workers
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _dask_executor(address: str) -> Iterator[tuple[Executor, int]]:
    try:
        from distributed import Client
    except ImportError as error:
        raise SystemExit(
            "--scheduler needs Dask: pip install 'dask[distributed]' here and on the workers"
        ) from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError) as error:
        raise SystemExit(
            f"no Dask scheduler answers at {address}; start one with `dask scheduler` and "
            "workers with `dask worker ADDRESS`"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError as error:
            raise SystemExit(
                f"the Dask scheduler at {address} has no worker; start one with "
                f"`dask worker {address}`"
            ) from error
        threads = sum(client.nthreads().values())
        yield client.get_executor(pure=False), threads


def _context(preload: Sequence[str]) -> multiprocessing.context.BaseContext:
    """A fork server where there is one: quick, and free of this process's threads and locks."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


def _start_worker() -> None:
    """End the worker with its parent: a killed run must not leave writers behind."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait_for_end() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()
