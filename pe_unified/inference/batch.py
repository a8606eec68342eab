"""Many studies: side by side, resumable, and none stops the others."""

import csv
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import torch

from pe_unified.ct.errors import DataError, one_line
from pe_unified.ct.headers import natural_key
from pe_unified.ct.study import STUDY_FILES
from pe_unified.inference.analysis import AnalysisOptions, analyse_study
from pe_unified.inference.outputs import REPORT
from pe_unified.inference.predictor import PredictorSettings, StudyPredictor
from pe_unified.inference.report import describe_model
from pe_unified.models.weights import CheckpointError
from pe_unified.workers import open_executor

_COLUMNS = (
    *("study", "status", "reason", "exam_probability", "positive", "abstain", "flags"),
    *("lesions", "volume_ml", "slices", "study_uid", "seconds", "report"),
)

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class StudyJob:
    """One study to analyse.

    Attributes:
        study: folder or file.
        name: as it lies in the root.
        out: its folder of the output, which may have a pseudonym.
        threads: of a worker.
    """

    study: Path
    name: str
    out: Path
    model: PredictorSettings
    options: AnalysisOptions
    threads: int | None = None


@dataclass
class BatchSummary:
    """One row per study, in the order of their names."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["status"] == "failed"]


def find_studies(root: Path) -> list[Path]:
    """Every sub-folder of ``root`` and every zip, NIfTI or NRRD file in it, in natural order.

    Raises:
        DataError: no folder, or nothing in it.
    """
    if not root.is_dir():
        raise DataError(root, "no such folder", "point to a folder of studies")
    found = [
        path
        for path in root.iterdir()
        if not path.name.startswith(".")
        and (path.is_dir() or path.name.lower().endswith(STUDY_FILES))
    ]
    if not found:
        cure = "put each study into a folder of its own, or a zip, NIfTI or NRRD file"
        raise DataError(root, "no study in it", cure)
    return sorted(found, key=lambda path: natural_key(path.name))


def analyse_many(
    root: Path,
    out: Path,
    model: PredictorSettings,
    options: AnalysisOptions | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> BatchSummary:
    """Analyse every study of a folder; ``out/summary.csv`` lists them all.

    A study whose report is whole and was made by the same model in the same way is not done
    again. A study that cannot be analysed, or that ends its worker, is named and leaves nothing.

    Args:
        root: see :func:`find_studies`.
        out: gets a folder per study, and ``summary.csv``.
        model: which model, and how it runs.
        options: as for one study.
        workers: processes on this machine.
        scheduler: address of a running Dask scheduler, whose workers are used instead; they must
            see the same paths.
        threads: of each worker.
        progress: called with the studies done, their number, and what was done last.

    Raises:
        DataError: no studies, or ``out`` cannot be written.
        CheckpointError: the model cannot be loaded.
    """
    options = options or AnalysisOptions()
    studies = find_studies(root)
    predictor = model.predictor()
    jobs = [
        StudyJob(path, path.name, out / _folder_name(path, options), model, options, threads)
        for path in studies
    ]
    rows: dict[str, dict[str, Any]] = {}
    waiting: list[StudyJob] = []
    for job in jobs:
        report = _report_before(job, predictor)
        if report is None:
            waiting.append(job)
        else:
            rows[job.name] = _row(job, report)
    summary = BatchSummary()
    try:
        for job, row in _run(waiting, workers, scheduler):
            rows[job.name] = row
            if progress is not None:
                progress(len(rows), len(jobs), f"{job.name}: {row['reason'] or 'done'}")
    finally:
        summary.rows = [rows[job.name] for job in jobs if job.name in rows]
        _write_summary(out, summary.rows)
    return summary


def _folder_name(path: Path, options: AnalysisOptions) -> str:
    """The study's own name; a pseudonym of it where no name may leave."""
    if options.pseudonym_key is None:
        return path.name
    key = options.pseudonym_key.encode()[:64]
    return hashlib.blake2b(path.name.encode(), digest_size=8, key=key).hexdigest()


def _run(
    jobs: Sequence[StudyJob], workers: int, scheduler: str | None
) -> Iterator[tuple[StudyJob, dict[str, Any]]]:
    """Every job with its row, as they end.

    When a worker dies, nobody can tell which of the studies under way ended it: these are done
    again one by one.
    """
    waiting = deque(jobs)
    while waiting:
        lost: list[StudyJob] = []
        with _open(min(workers, len(waiting)), scheduler) as (executor, slots):
            running: dict[Future, StudyJob] = {}
            while (waiting or running) and not lost:
                while waiting and len(running) < slots:
                    job = waiting.popleft()
                    _remove_partial(job.out)
                    running[executor.submit(run_job, job)] = job
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    job = running.pop(future)
                    try:
                        yield job, future.result()
                    except BrokenProcessPool:
                        lost.append(job)
                    except Exception as error:  # a cluster gives up a task that ends its workers
                        _remove_partial(job.out)
                        yield job, _failed(job, _unforeseen(error))
            lost += running.values()
        for job in lost:
            yield job, _run_alone(job)


def _run_alone(job: StudyJob) -> dict[str, Any]:
    """A job in a worker of its own, after a worker died that may have been at it."""
    _remove_partial(job.out)
    with _open(1, None) as (executor, _):
        try:
            return executor.submit(run_job, job).result()
        except BrokenProcessPool:
            _remove_partial(job.out)
            return _failed(job, "its worker process was ended twice (out of memory?)")


def _open(workers: int, scheduler: str | None) -> AbstractContextManager[tuple[Executor, int]]:
    return open_executor(workers, scheduler, ["pe_unified.inference.batch"], isolated=True)


def run_job(job: StudyJob) -> dict[str, Any]:
    """Analyse one study in this process; its row of the summary."""
    if job.threads:
        torch.set_num_threads(job.threads)
    cv2.setNumThreads(1)
    try:
        report = analyse_study(job.study, job.out, _predictor(job.model), job.options)
    except (DataError, CheckpointError) as error:
        return _failed(job, _reason(error, job.options))
    except Exception as error:  # one study must not stop the others
        return _failed(job, _unforeseen(error))
    return _row(job, report)


@lru_cache(maxsize=1)
def _predictor(settings: PredictorSettings) -> StudyPredictor:
    """The model, loaded once per process."""
    return settings.predictor()


def _unforeseen(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}")


def _reason(error: Exception, options: AnalysisOptions) -> str:
    """In words; without the file's name where no name may leave."""
    if not isinstance(error, DataError):
        return str(error)
    if options.pseudonym_key is not None:
        return f"{error.reason}; {error.cure}"
    return f"{Path(error.where).name}: {error.reason}; {error.cure}"


def _report_before(job: StudyJob, predictor: StudyPredictor) -> dict[str, Any] | None:
    """The report of an earlier run that would come out the same, or None."""
    try:
        report = json.loads((job.out / REPORT).read_text())
        same = report["settings"] == {"gate": job.model.gate, **job.options.as_dict()} and (
            report["model"] == json.loads(json.dumps(describe_model(predictor)))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if same else None


def _row(job: StudyJob, report: Mapping[str, Any]) -> dict[str, Any]:
    volumes = [lesion["volume_ml"] or 0.0 for lesion in report["lesions"]]
    return {
        "study": job.out.name,
        "status": "done",
        "reason": "",
        "exam_probability": report["exam"]["probability"],
        "positive": report["exam"]["positive"],
        "abstain": report["quality"]["abstain"],
        "flags": " ".join(flag["name"] for flag in report["quality"]["flags"]),
        "lesions": len(report["lesions"]),
        "volume_ml": round(sum(volumes), 3),
        "slices": report["input"]["slices"],
        "study_uid": report["input"]["study_uid"],
        "seconds": report["seconds"]["total"],
        "report": f"{job.out.name}/{REPORT}",
    }


def _failed(job: StudyJob, reason: str) -> dict[str, Any]:
    return {
        **dict.fromkeys(_COLUMNS),
        "study": job.out.name,
        "status": "failed",
        "reason": reason,
    }


def _remove_partial(out: Path) -> None:
    """What a worker that was killed left half-written."""
    for partial in out.glob(".part-*"):
        shutil.rmtree(partial, ignore_errors=True)


def _write_summary(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    partial = out / f".summary.csv.{os.getpid()}.part"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(partial, out / "summary.csv")
    except OSError as error:
        raise DataError(out, f"cannot be written to ({error.strerror})", "make room") from error
