"""Where the work runs: on which cores, in this process, in workers, or on a Dask cluster.

Every process started here ends when its parent ends, for whatever reason.
"""

import multiprocessing
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import connection, resource_tracker
from typing import Any

import psutil

from pe_unified.errors import UserError

#: How long to wait for a Dask scheduler, and for its first worker, seconds.
CONNECT_SECONDS, WORKER_SECONDS = 30, 60
#: Environment variable: the pipe that closes when the command that started this one ends.
_OUTER = "PE_UNIFIED_OUTER_COMMAND"
_KILLED = "a process was killed, perhaps because memory ran out; fewer at a time need less"


class WorkerDied(UserError, RuntimeError):
    """A process was killed, by hand or for lack of memory."""

    def __init__(
        self,
        message: str = f"{_KILLED} (--workers, --jobs). Run the same command again",
    ) -> None:
        super().__init__(message)


def died_between(option: str) -> WorkerDied:
    """The error in a command that continues where it stopped; ``option`` sets how many work."""
    return WorkerDied(f"{_KILLED} ({option}). The same command continues where this one stopped")


class SchedulerError(UserError, RuntimeError):
    """A Dask cluster cannot be used; the message says what to start or install."""


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
        workers: processes on this machine; 1 runs tasks in this process, unless ``isolated``.
        scheduler: address of a running Dask scheduler, whose workers are used instead.
        preload: modules imported once for all workers, so that they start quickly.
        isolated: use another process even for one worker, in case a task ends its process.
    """
    if scheduler is not None:
        with _dask_executor(scheduler) as opened:
            yield opened
    elif workers <= 1 and not isolated:
        yield SerialExecutor(), 1
    else:
        context = _context(preload)
        pool = ProcessPoolExecutor(max(workers, 1), context, initializer=begin_worker)
        try:
            yield pool, workers
        except BrokenProcessPool as error:
            raise WorkerDied from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Task:
    """A call and its owner.

    Fields:
        owner: anything that identifies the task.
        call: picklable, as are its arguments.
    """

    owner: Any
    call: Callable[..., Any]
    arguments: tuple = ()


def as_they_end(
    executor: Executor, slots: int, ready: Callable[[], Task | None]
) -> Iterator[tuple[Any, Future]]:
    """Yield the owner and the future of each task as it ends; at most ``slots`` run at once.

    Args:
        executor: runs the tasks.
        slots: how many at a time.
        ready: returns the next task, or None if none can start now. It is called again after each
            task, so that tasks may depend on results. Stops when none runs and none is ready.
    """
    running: dict[Future, Any] = {}
    while True:
        while len(running) < slots and (task := ready()) is not None:
            try:
                with interrupts_deferred():  # it may start a process
                    future = executor.submit(task.call, *task.arguments)
            except BrokenProcessPool as error:  # a process died since the last result
                future = Future()
                future.set_exception(error)
            running[future] = task.owner
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future


def in_order(
    executor: Executor, slots: int, call: Callable[..., Any], tasks: Iterable[Sequence[Any]]
) -> Iterator[Any]:
    """Yield the result of ``call`` for each of the tasks (its arguments), in their order.

    Only a few tasks wait in the executor at a time, so that an error stops the rest.
    """
    waiting = iter(tasks)
    running: deque[Future] = deque()
    while True:
        more = islice(waiting, 2 * slots - len(running))
        running.extend(executor.submit(call, *task) for task in more)
        if not running:
            return
        yield running.popleft().result()


@contextmanager
def _dask_executor(address: str) -> Iterator[tuple[Executor, int]]:
    try:
        from distributed import Client
    except ImportError as error:
        raise SchedulerError(
            "--scheduler needs Dask: pip install 'dask[distributed]' here and on the workers"
        ) from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError) as error:
        raise SchedulerError(
            f"no Dask scheduler answers at {address}; start one with `dask scheduler` and "
            "workers with `dask worker ADDRESS`"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError as error:
            raise SchedulerError(
                f"the Dask scheduler at {address} has no worker; start one with "
                f"`dask worker {address}`"
            ) from error
        threads = sum(client.nthreads().values())
        yield client.get_executor(pure=False), threads


def _context(preload: Sequence[str]) -> multiprocessing.context.BaseContext:
    """A fork server if available: quick, and free of this process's threads and locks."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    resource_tracker.ensure_running()  # started in the block, it would unblock signals
    with interrupts_deferred():
        forkserver.ensure_running()
    return context


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Defer Ctrl-C until the end of the block.

    Processes started inside never receive it: the caller must end them.
    """
    heard: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    # Child processes inherit the mask. Other threads lack it and may receive the signal.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if in_main:
        handler = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        if in_main:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if heard:
            signal.raise_signal(signal.SIGINT)


def end_workers() -> None:
    """Kill the processes that multiprocessing started here, including those still starting."""
    for process in multiprocessing.active_children():
        process.kill()
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if "multiprocessing.forkserver" in " ".join(child.cmdline()):
                child.suspend()  # so that it starts no more workers
                for worker in child.children():
                    with suppress(psutil.NoSuchProcess):
                        worker.kill()
                child.kill()
                # Its parent reaps it later; until then it must not appear to be running.
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)


def begin_worker() -> None:
    """First call in a worker: it ignores Ctrl-C and ends when its parent ends.

    A killed run must not leave processes that still write.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        _at_end_of(parent.sentinel, lambda: os._exit(1))


def _at_end_of(sentinel: int, react: Callable[[], None]) -> None:
    """Call ``react`` as soon as the other end of a pipe closes, however its owner ended."""

    def wait_for_end() -> None:
        connection.wait([sentinel])
        react()

    threading.Thread(target=wait_for_end, daemon=True).start()


def run_command(words: Sequence[str]) -> int:
    """Run another command of this package, interrupted if this one ends; returns its status."""
    ends, held = os.pipe()
    try:
        environment = {**os.environ, _OUTER: str(ends)}
        process = subprocess.Popen(words, pass_fds=[ends], env=environment)
    except BaseException:
        os.close(held)
        raise
    finally:
        os.close(ends)
    try:
        return process.wait()
    finally:
        os.close(held)
        process.wait()


def follow_outer_command() -> bool:
    """Whether a command of this package runs this one; if so, its end interrupts this process."""
    sentinel = os.environ.pop(_OUTER, None)
    if sentinel is None:
        return False
    # In the background of a script Ctrl-C is ignored.
    is_deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    def end() -> None:
        if is_deaf:
            end_workers()
            os._exit(130)
        os.kill(os.getpid(), signal.SIGINT)

    _at_end_of(int(sentinel), end)
    return True
