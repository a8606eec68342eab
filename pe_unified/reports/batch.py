"""Analyses many studies in parallel; resumable, and no study stops the others."""

import hashlib
import os
import re
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import torch
from filelock import FileLock, Timeout

from pe_unified.ct.patients import SeveralStudies
from pe_unified.errors import CheckpointError, DataError, one_line, shown
from pe_unified.inference.lung_sources import lung_source
from pe_unified.inference.predictor import PredictorSettings, StudyPredictor
from pe_unified.paths import require_apart
from pe_unified.progress import track
from pe_unified.reports.analysis import AnalysisOptions, analyse_study
from pe_unified.reports.batch_table import row_of_failure, row_of_report, write_summary
from pe_unified.reports.case_list import find_studies, skipped_files
from pe_unified.reports.file_names import REPORT
from pe_unified.reports.files import remove_partial, require_writable
from pe_unified.reports.study_job import (
    StudyJob,
    make_way,
    report_before,
    report_of_only_study,
)
from pe_unified.workers import Task, as_they_end, open_executor

_UID = re.compile(r"\d+(\.\d+)*")
#: The threads of a Dask worker share its model, which handles one study at a time.
_ONE_AT_A_TIME = threading.Lock()

Progress = Callable[[int, int, str], None]


@dataclass
class BatchSummary:
    """One row per study, ordered by place, then by patient and date.

    Attributes:
        rows: the content of ``summary.csv``.
        skipped: names of the files in the input folder that are not studies.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["status"] == "failed"]


def analyse_many(
    root: Path,
    out: Path,
    model: PredictorSettings,
    options: AnalysisOptions | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    missing: bool = False,
) -> BatchSummary:
    """Analyse every study of a folder; ``out/summary.csv`` lists them all.

    If a place holds several studies, each has its own row and its report in a subfolder. A study
    with a complete report, made by the same model with the same settings, is skipped. A study that
    cannot be analysed, or that kills its worker, is listed with the reason and leaves no files.

    Args:
        root: see :func:`~pe_unified.reports.case_list.find_studies`.
        out: gets one folder per study, and ``summary.csv``.
        model: the model and how to run it.
        options: as for one study.
        workers: processes on this machine.
        scheduler: address of a running Dask scheduler, whose workers are used instead; they must
            see the same paths.
        threads: per worker.
        progress: called with the studies done, their total, and the one that was done last.
        missing: analyse only studies without a report, whatever model made the existing ones, and
            whatever images they have got since.

    Raises:
        DataError: there are no studies, ``out`` cannot be written, lies in ``root``, or another run
            is writing to it.
        CheckpointError: the model cannot be loaded.
    """
    options = options or AnalysisOptions()
    if workers < 1:
        raise ValueError(f"workers is at least 1, got {workers}")
    require_apart(out, root)
    studies = find_studies(root)
    predictor = model.predictor()
    lung_source(options.lungs_from, predictor.lungs is not None)
    digests = predictor.digests
    del predictor  # each worker loads its own
    require_writable(out)
    lock = FileLock(out / ".lock")
    try:
        with lock.acquire(blocking=False):
            jobs = _jobs(studies, out, model, options, threads, missing)
            summary = _analyse(jobs, out, digests, workers, scheduler, progress)
    except Timeout as error:
        reason = "another run is writing into it"
        raise DataError(out, reason, "wait for it, or choose another --out") from error
    summary.skipped = skipped_files(root, studies)
    return summary


def _jobs(
    studies: Sequence[Path],
    out: Path,
    model: PredictorSettings,
    options: AnalysisOptions,
    threads: int | None,
    missing: bool,
) -> list[StudyJob]:
    return [
        StudyJob(
            path,
            path.name,
            out,
            _folder_name(path.name, options),
            model,
            options,
            threads,
            missing,
        )
        for path in studies
    ]


def _analyse(
    jobs: Sequence[StudyJob],
    out: Path,
    digests: tuple[str | None, ...],
    workers: int,
    scheduler: str | None,
    progress: Progress | None,
) -> BatchSummary:
    rows: dict[str, list[dict[str, Any]]] = {}
    waiting: list[StudyJob] = []
    for job in track(jobs, "comparing with earlier reports"):
        report = report_before(job, digests)
        if report is None:
            waiting.append(job)
        else:
            rows[job.name] = [row_of_report(job.folder, report)]
    summary = BatchSummary()
    try:
        for job, found in _run(waiting, workers, scheduler):
            rows[job.name] = found
            if progress is not None:
                reasons = "; ".join(row["reason"] for row in found if row["reason"])
                progress(len(rows), len(jobs), f"{shown(job.folder)}: {reasons or 'done'}")
    finally:
        summary.rows = [row for job in jobs for row in rows.get(job.name, ())]
        write_summary(out, summary.rows)
    return summary


def _folder_name(name: str, options: AnalysisOptions) -> str:
    """The name itself, or its pseudonym if names must not appear."""
    if options.pseudonym_key is None:
        return name
    key = options.pseudonym_key.encode()[:64]
    return hashlib.blake2b(os.fsencode(name), digest_size=8, key=key).hexdigest()


def _jobs_of_studies(job: StudyJob, names: Sequence[str]) -> list[StudyJob]:
    """One job per study, in a folder named after its UID, or after its number without a UID."""
    uids = [name.rpartition("/")[2] for name in names]
    jobs = []
    for number, (name, uid) in enumerate(zip(names, uids, strict=True), 1):
        plain = _UID.fullmatch(uid) and uids.count(uid) == 1
        folder = _folder_name(uid if plain else f"study{number}", job.options)
        options = replace(job.options, study_uid=name)
        jobs.append(replace(job, folder=f"{job.folder}/{folder}", options=options))
    return jobs


def _run(
    jobs: Sequence[StudyJob], workers: int, scheduler: str | None
) -> Iterator[tuple[StudyJob, list[dict[str, Any]]]]:
    """Run all jobs; yields each with its rows when it ends.

    When a worker dies, it is not known which of the running studies killed it: these are repeated
    one by one.
    """
    waiting = deque(jobs)
    while waiting:
        lost: list[StudyJob] = []
        with _open(min(workers, len(waiting)), scheduler) as (executor, slots):

            def ready(lost: Sequence[StudyJob] = lost) -> Task | None:
                if lost or not waiting:
                    return None
                job = waiting.popleft()
                _remove_partial(job)
                return Task(job, run_job, (job,))

            for job, future in as_they_end(executor, slots, ready):
                try:
                    rows = future.result()
                except BrokenProcessPool:
                    lost.append(job)
                    continue
                except Exception as error:  # a cluster gives up on a task that kills its workers
                    rows = [_failed(job, _reason(error, job.options))]
                _remove_partial(job)  # left by a worker of the cluster that was killed
                yield job, rows
        for job in lost:
            yield job, _run_alone(job)


def _remove_partial(job: StudyJob) -> None:
    for folder in (job.out, *job.out.glob("*/")):
        remove_partial(folder)


def _run_alone(job: StudyJob) -> list[dict[str, Any]]:
    """Run a job in its own worker, after the death of a worker that it may have caused."""
    _remove_partial(job)
    with _open(1, None) as (executor, _):
        try:
            return executor.submit(run_job, job).result()
        except BrokenProcessPool:
            _remove_partial(job)
            return [_failed(job, "its worker process was killed twice (out of memory?)")]


def _open(workers: int, scheduler: str | None) -> AbstractContextManager[tuple[Executor, int]]:
    return open_executor(workers, scheduler, ["pe_unified.reports.batch"], isolated=True)


def run_job(job: StudyJob) -> list[dict[str, Any]]:
    """Analyse one place in this process; returns one row of the summary per study."""
    if job.threads:
        torch.set_num_threads(job.threads)
    cv2.setNumThreads(1)
    warnings.filterwarnings("ignore", module="pydicom")
    try:
        with _ONE_AT_A_TIME:
            predictor = _predictor(job.model)
            report = None
            if job.options.study_uid:  # one of several, of which some may be done already
                report = report_before(job, predictor.digests)
            elif job.missing:
                report = report_of_only_study(job)
            report = report or analyse_study(job.study, job.out, predictor, job.options)
    except SeveralStudies as several:
        jobs = _jobs_of_studies(job, several.names)
        make_way(job, jobs)
        return [row for one in jobs for row in run_job(one)]
    except Exception as error:  # one study must not stop the others
        return [_failed(job, _reason(error, job.options))]
    return [row_of_report(job.folder, report)]


@lru_cache(maxsize=1)
def _predictor(settings: PredictorSettings) -> StudyPredictor:
    """The model, loaded once per process."""
    return settings.predictor()


def _reason(error: Exception, options: AnalysisOptions) -> str:
    """The error in words, without file names if names must not appear."""
    hidden = options.pseudonym_key is not None
    if isinstance(error, DataError):
        if hidden:
            return error.without_names()
        return f"{shown(Path(error.where).name)}: {error.reason}; {error.cure}"
    if isinstance(error, CheckpointError):
        return (
            "the model cannot be loaded; try one study with pe-unified infer"
            if hidden
            else str(error)
        )
    kind = type(error).__name__
    return kind if hidden else one_line(f"{kind}: {error}")


def _failed(job: StudyJob, reason: str) -> dict[str, Any]:
    if (job.out / REPORT).exists():
        reason += "; the report of an earlier run stays in its folder"
    return row_of_failure(job.folder, reason)
