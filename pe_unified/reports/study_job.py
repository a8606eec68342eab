"""One place in the input of a batch, and the reports that it has from earlier runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_unified.ct.opening import open_study
from pe_unified.errors import DataError
from pe_unified.inference.predictor import PredictorSettings
from pe_unified.reports.analysis import AnalysisOptions
from pe_unified.reports.batch_table import row_of_report
from pe_unified.reports.file_names import LUNGS, REPORT
from pe_unified.reports.files import move_report, remove_report
from pe_unified.reports.report import SCHEMA_VERSION, pseudonym
from pe_unified.version import __version__


@dataclass(frozen=True)
class StudyJob:
    """One place in the input, which holds one study or several.

    Attributes:
        study: folder or file.
        name: of the place, as in the input folder.
        root: output folder of the batch.
        folder: of this job within ``root``; may be a pseudonym.
        threads: per worker.
        missing: accept any existing report, whatever model made it.
    """

    study: Path
    name: str
    root: Path
    folder: str
    model: PredictorSettings
    options: AnalysisOptions
    threads: int | None = None
    missing: bool = False

    @property
    def out(self) -> Path:
        return self.root / self.folder


def report_of_only_study(job: StudyJob) -> dict[str, Any] | None:
    """The report of a place whose files have changed since, if it still holds one study.

    Raises:
        SeveralStudies: it holds more.
    """
    report = _stored(job)
    if report is not None:
        with open_study(job.study, job.options.series_uid):
            return report
    return None


def make_way(job: StudyJob, jobs: Sequence[StudyJob]) -> None:
    """Move the report of the only study that was here before to where that study's is now."""
    before = _stored(job)
    named = before and before["input"]["study_uid"]
    key = job.options.pseudonym_key
    for one in jobs:
        uid = str(one.options.study_uid).rpartition("/")[2]
        if named and named in (uid, pseudonym(uid, key or "")):
            move_report(job.out, one.out)
    remove_report(job.out)


def report_before(job: StudyJob, digests: tuple[str | None, ...]) -> dict[str, Any] | None:
    """The report of an earlier run on the same files with the same models and settings, or None.
    With ``missing``, any report, of a place with the same files or of one of its studies.

    Settings that the machine chooses itself, such as the device, may differ.
    """
    options, settings = job.options, job.model
    wanted: dict[tuple[str, str], Any] = {
        ("software", "version"): __version__,
        ("model", "backend"): settings.backend,
        ("model", "device"): settings.device and settings.device.partition(":")[0],
        ("model", "precision"): settings.precision,
        ("settings", "gate"): settings.gate,
        ("settings", "every_slice"): options.every_slice,
        ("settings", "pseudonymised"): options.pseudonym_key is not None,
        ("settings", "lungs_from"): None if options.lungs_from == "auto" else options.lungs_from,
    }
    report = _stored(job)
    if report is None or (job.missing and options.study_uid):
        return report
    try:
        if report["input"]["fingerprint"] != options.fingerprint(job.study):
            return None
        same = job.missing or (
            report["schema_version"] == SCHEMA_VERSION
            and (job.out / LUNGS).exists() == options.lung_mask
            and _digests(report) == digests
            and all(
                value is None or report[part][name] == value
                for (part, name), value in wanted.items()
            )
        )
    except (DataError, KeyError, TypeError):  # analysing it gives the message
        return None
    return report if same else None


def _stored(job: StudyJob) -> dict[str, Any] | None:
    """The report in the folder of a job; None if there is none that can be read."""
    try:
        report = json.loads((job.out / REPORT).read_text("utf-8"))
        row_of_report(job.folder, report)  # a report of another version may lack fields
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report


def _digests(report: Mapping[str, Any]) -> tuple[str | None, ...]:
    """As :attr:`StudyPredictor.digests`, for the models of a report."""
    model, exam = report["model"], report["exam_model"]
    models = (model, exam and exam["model"], model["lung_detector"], model["volume_model"])
    return (*(each and each["sha256"] for each in models), ", ".join(model["int8"]))
