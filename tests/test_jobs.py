import functools
import multiprocessing
import os
import signal
import time

import pytest
import torch

from pe_unified.jobs import Job, chain_costs, run_jobs
from pe_unified.progress import show_progress_by, tell
from pe_unified.workers import WorkerDied

# What the workers run: functions of this module, found there by name.


def note_down(folder, name, report):
    begin = time.monotonic()
    report(f"{name} is at work")
    time.sleep(0.2)
    (folder / name).write_text(str(os.getpid()))
    return begin, time.monotonic(), torch.get_num_threads()


def refuse(folder, name, report):
    raise ValueError(f"{name} will not do it")


def die(folder, name, report):
    os.kill(os.getpid(), signal.SIGKILL)


def job(folder, name, *needs, work=note_down, cost=1.0):
    return Job(name, functools.partial(work, folder, name), needs, cost)


def test_jobs_wait_for_what_they_need_and_run_side_by_side(tmp_path):
    lines = []
    jobs = [job(tmp_path, "a"), job(tmp_path, "b"), job(tmp_path, "c", "a", "b")]
    results = run_jobs(jobs, processes=2, report=lines.append)
    assert sorted(lines) == ["a is at work", "b is at work", "c is at work"]
    spans = {name: (begin, end) for name, (begin, end, _) in results.items()}
    assert spans["c"][0] >= max(spans["a"][1], spans["b"][1])
    pids = {name: (tmp_path / name).read_text() for name in "abc"}
    assert len(set(pids.values())) <= 2 and str(os.getpid()) not in pids.values()
    cores = len(os.sched_getaffinity(0))
    assert {threads for _, _, threads in results.values()} == {max(1, cores // 2)}


@pytest.fixture
def quick_start(monkeypatch):
    """Workers out of a process that has loaded torch already."""
    real = multiprocessing.get_context
    monkeypatch.setattr(
        multiprocessing, "get_context", lambda method=None: real(method and "forkserver")
    )


def test_one_process_runs_them_here_in_order(tmp_path):
    lines = []
    run_jobs([job(tmp_path, "a"), job(tmp_path, "b", "a")], processes=1, report=lines.append)
    assert lines == ["a is at work", "b is at work"]
    assert (tmp_path / "b").read_text() == str(os.getpid())


def half(folder, name, report):
    tell("in its own words", 5, 10)


@pytest.mark.usefixtures("quick_start")
@pytest.mark.parametrize("processes", [1, 2])
def test_it_is_told_how_far_all_of_them_are(tmp_path, processes):
    seen = []

    class Display:
        def show(self, title, done, total, state):
            seen.append((title, done, total))

        def drop(self, title): ...

        def say(self, line): ...

    before = show_progress_by(Display())
    jobs = [job(tmp_path, "a", work=half, cost=10), job(tmp_path, "b", "a", work=half, cost=30)]
    run_jobs(jobs, processes, report=print)
    show_progress_by(before)
    assert [each for each in seen if each[0] == "all steps"] == [
        ("all steps", 5, 40),
        ("all steps", 25, 40),
    ]


@pytest.mark.usefixtures("quick_start")
def test_failure_keeps_its_type_and_stops_what_follows(tmp_path):
    jobs = [
        job(tmp_path, "bad", work=refuse),
        job(tmp_path, "good"),
        job(tmp_path, "after", "bad"),
    ]
    with pytest.raises(ValueError, match="bad will not do it"):
        run_jobs(jobs, processes=2, report=lambda line: None)
    assert (tmp_path / "good").is_file() and not (tmp_path / "after").exists()


@pytest.mark.usefixtures("quick_start")
def test_killed_worker_is_named_as_such(tmp_path):
    jobs = [job(tmp_path, "killed", work=die), job(tmp_path, "after", "killed")]
    with pytest.raises(WorkerDied, match=r"killed.*\(--jobs\). The same command continues"):
        run_jobs(jobs, processes=2, report=lambda line: None)


def test_chains_cost_what_their_jobs_cost(tmp_path):
    jobs = [
        job(tmp_path, "a"),
        job(tmp_path, "b", "a", cost=5.0),
        job(tmp_path, "c", "a", "b", cost=2.0),
        job(tmp_path, "d", cost=3.0),
    ]
    assert chain_costs(jobs) == {"a": 8.0, "b": 7.0, "c": 2.0, "d": 3.0}
