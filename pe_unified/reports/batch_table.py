"""The table of a batch, ``summary.csv``: one row per study."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_unified.csv_files import csv_text
from pe_unified.ct.exam_labels import EXAM_WEIGHTS
from pe_unified.errors import DataError
from pe_unified.files import write_text
from pe_unified.reports.exam_block import exam_call_in_words
from pe_unified.reports.file_names import REPORT
from pe_unified.reports.report import is_listed, looks_for_lesions, verdict_in_words

_EXAM_COLUMNS = (
    *("exam_model", "exam_model_probability", "exam_model_positive", "exam_model_agrees"),
    *EXAM_WEIGHTS,
    "exam_model_training",
)
_COLUMNS = (
    *("study", "status", "reason", "exam_probability", "positive", "verdict", "abstain", "flags"),
    *("lesions", "candidates", "volume_ml", "slices", "study_uid", "seconds", "report"),
    *("training", *_EXAM_COLUMNS),
)


def row_of_report(folder: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a study that was analysed.

    Args:
        folder: of the study, within the output.
        report: the content of ``report.json``.
    """
    listed = [lesion for lesion in report["lesions"] if is_listed(lesion)]
    volume = report["measurements"]["clot_volume_ml"]
    # If the model does not look for lesions, the cell stays empty: it must not read 0.
    looks = looks_for_lesions(report)
    return {
        "study": _tabled(folder),
        "status": "done",
        "reason": "",
        "exam_probability": report["exam"]["probability"],
        "positive": report["exam"]["positive"],
        "verdict": verdict_in_words(report),
        "abstain": report["quality"]["abstain"],
        "flags": " ".join(flag["name"] for flag in report["quality"]["flags"]),
        "lesions": len(listed) if looks else None,
        "candidates": len(report["lesions"]) - len(listed) if looks else None,
        "volume_ml": None if volume is None else round(volume, 3),
        "slices": report["input"]["slices"],
        "study_uid": report["input"]["study_uid"],
        "seconds": report["seconds"]["total"],
        "report": f"{_tabled(folder)}/{REPORT}",
        "training": report["model"]["training_notice"],
        **_exam_columns(report["exam_model"]),
    }


def _exam_columns(block: Mapping[str, Any] | None) -> dict[str, Any]:
    """Columns of the exam model's answer; empty without one."""
    if block is None:
        return dict.fromkeys(_EXAM_COLUMNS)
    return {
        "exam_model": exam_call_in_words(block),
        "exam_model_probability": block["probability"],
        "exam_model_positive": block["positive"],
        "exam_model_agrees": block["agrees"],
        **block["labels"],
        "exam_model_training": block["model"]["training_notice"],
    }


def row_of_failure(folder: str, reason: str) -> dict[str, Any]:
    """The row of a study that could not be analysed."""
    return {
        **dict.fromkeys(_COLUMNS),
        "study": _tabled(folder),
        "status": "failed",
        "reason": reason,
    }


def _tabled(name: str) -> str:
    """A file name for the summary: any letter is kept, undecodable bytes are replaced."""
    return "".join("?" if unicodedata.category(each) in ("Cc", "Cs") else each for each in name)


def write_summary(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``summary.csv``.

    Raises:
        DataError: ``out`` cannot be written to.
    """
    try:
        write_text(out / "summary.csv", csv_text(_COLUMNS, rows))
    except OSError as error:
        raise DataError(out, "cannot be written to", "make room", error) from error
