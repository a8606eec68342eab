"""Jobs that depend on each other, run several at a time in separate processes."""

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import Any

import cv2
import torch

from pe_unified.progress import Display, drop, show_progress_by, tell
from pe_unified.workers import Task, as_they_end, begin_worker, died_between, usable_cores

#: Title of the progress of all jobs.
_ALL = "all steps"
#: Takes one line of text.
Report = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """Work that can be sent to another process.

    Fields:
        name: unique; also the title of its progress bar.
        run: called with a :data:`Report`; it and its result must be picklable.
        needs: names of the jobs that must finish before it starts.
        cost: estimated duration, in any unit.
    """

    name: str
    run: Callable[[Report], Any]
    needs: tuple[str, ...] = ()
    cost: float = 1.0


def run_jobs(jobs: Sequence[Job], processes: int, report: Report) -> dict[str, Any]:
    """Run all jobs, each after those that it needs.

    Jobs that begin the costliest chain start first; among equals, those with the most needs.
    Every process gets an equal share of the cores and, if there are GPUs, one of them in turn.
    The share does not depend on how many jobs are left, so a resumed run computes the same as
    an uninterrupted one. After a failure no new job starts, and running jobs are finished.

    Args:
        jobs: in an order in which they could run one by one.
        processes: how many at a time; with 1 they run in this process, in order.
        report: called with one line at a time.

    Returns:
        The result of each job, by name.

    Raises:
        WorkerDied: a process was killed.
        Exception: the error of the first job that failed.
    """
    with _wrapped(lambda display: _Whole(display, jobs)):
        if processes > 1 and jobs:
            return _run_beside(jobs, processes, report)
        results = {}
        for job in jobs:
            with _wrapped(lambda display, name=job.name: _Renamed(display, name)):
                results[job.name] = job.run(report)
            drop(job.name)
        return results


@contextmanager
def _wrapped(wrap: Callable[[Display], Display]) -> Iterator[None]:
    """Wrap the display of progress, if there is one, until the end of the block."""
    before = show_progress_by(None)
    show_progress_by(wrap(before) if before else None)
    try:
        yield
    finally:
        show_progress_by(before)


class _Renamed:
    """Shows all progress under one name."""

    def __init__(self, display: Display, name: str) -> None:
        self.display, self.name = display, name

    def show(self, title: str, done: int, total: int | None, state: str) -> None:
        self.display.show(self.name, done, total, state)

    def drop(self, title: str) -> None:
        self.display.drop(self.name)

    def say(self, line: str) -> None:
        self.display.say(line)


class _Whole:
    """Shows the progress of each job and of all jobs together."""

    def __init__(self, display: Display, jobs: Sequence[Job]) -> None:
        self.display = display
        self.costs = {job.name: job.cost for job in jobs}
        self.shares = dict.fromkeys(self.costs, 0.0)

    def show(self, title: str, done: int, total: int | None, state: str) -> None:
        self.display.show(title, done, total, state)
        if title in self.costs and total and len(self.costs) > 1:
            self._count(title, done / total)

    def drop(self, title: str) -> None:
        self.display.drop(title)
        if title in self.costs:
            self.shares[title] = 1.0
            if min(self.shares.values()) == 1.0:
                self.display.drop(_ALL)

    def say(self, line: str) -> None:
        self.display.say(line)

    def _count(self, name: str, share: float) -> None:
        self.shares[name] = max(self.shares[name], share)  # a test starts again at 0
        cost = sum(self.costs[each] * share for each, share in self.shares.items())
        self.display.show(_ALL, round(cost), round(sum(self.costs.values())), "")


def _run_beside(jobs: Sequence[Job], processes: int, report: Report) -> dict[str, Any]:
    """Run jobs in parallel processes."""
    context = multiprocessing.get_context("spawn")
    # One pipe per process: a queue has a lock, and a killed process may hold it for ever.
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    slots = context.SimpleQueue()
    for slot in range(processes):
        slots.put(slot)
    stop, stopped = context.Pipe(duplex=False)
    receivers = [receiver for receiver, _ in pipes]
    listener = threading.Thread(target=_listen, args=(receivers, stop, report), daemon=True)
    listener.start()
    threads = max(1, usable_cores() // processes)
    senders = [sender for _, sender in pipes]
    executor = ProcessPoolExecutor(processes, context, _begin_worker, (senders, slots, threads))
    try:
        return _schedule(jobs, processes, executor, report)
    except BrokenProcessPool:
        raise died_between("--jobs") from None
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        stopped.send(None)
        listener.join()


def _schedule(
    jobs: Sequence[Job], processes: int, executor: ProcessPoolExecutor, report: Report
) -> dict[str, Any]:
    chain = chain_costs(jobs)
    waiting = sorted(jobs, key=lambda job: (-chain[job.name], -len(job.needs)))
    under_way: dict[str, Job] = {}
    results: dict[str, Any] = {}
    failure: BaseException | None = None

    def ready() -> Task | None:
        for job in waiting if failure is None else ():
            if results.keys() >= set(job.needs):
                waiting.remove(job)
                under_way[job.name] = job
                return Task(job.name, _call, (job,))
        return None

    for name, future in as_they_end(executor, processes, ready):
        del under_way[name]
        error = future.exception()
        if error is None:
            results[name] = future.result()
        elif failure is None:
            failure = error
            if under_way and not isinstance(error, BrokenProcessPool):
                report(f"{name} failed; waiting for {', '.join(under_way)} to end first")
    if failure is not None:
        raise failure
    return results


def chain_costs(jobs: Sequence[Job]) -> Mapping[str, float]:
    """For each job, the cost of the costliest chain of jobs that begins with it."""
    cost: dict[str, float] = {}
    for job in reversed(jobs):
        behind = [cost[other.name] for other in jobs if job.name in other.needs]
        cost[job.name] = job.cost + max(behind, default=0.0)
    return cost


def _listen(receivers: Sequence[Connection], stop: Connection, report: Report) -> None:
    """Show the messages of the processes, until told to stop and no message is left."""
    shown = {"line": report, "done": drop, "progress": tell}
    stopping = False
    while True:
        ready = wait_for([*receivers, stop], timeout=0 if stopping else None)
        for receiver in ready:
            if receiver is stop:
                stopping = True
                continue
            kind, *content = receiver.recv()
            shown[kind](*content)
        if stopping and not set(ready) - {stop}:
            return


# In the worker processes.

_parent: Connection | None = None


def _begin_worker(senders: Sequence[Connection], slots: Any, threads: int) -> None:
    global _parent
    begin_worker()
    # A spawned process inherits this start method; reset it for its own child processes.
    multiprocessing.set_start_method(None, force=True)
    slot = slots.get()
    _parent = senders[slot]
    if torch.cuda.device_count():
        torch.cuda.set_device(slot % torch.cuda.device_count())
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)


def _tell(*message: Any) -> None:
    assert _parent is not None
    _parent.send(message)


class _ToParent:
    """Shows one job's progress in the parent process, under the job's name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def show(self, title: str, done: int, total: int | None, state: str) -> None:
        _tell("progress", self.name, done, total, state)

    def drop(self, title: str) -> None:
        _tell("done", self.name)

    def say(self, line: str) -> None:
        _tell("line", line)


def _call(job: Job) -> Any:
    show_progress_by(_ToParent(job.name))
    try:
        return job.run(lambda line: _tell("line", line))
    finally:
        drop(job.name)
