"""Writes the files of a report, either all of them or none."""

import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pe_unified.csv_files import csv_text
from pe_unified.ct.study import CTStudy
from pe_unified.errors import DataError
from pe_unified.files import write_text
from pe_unified.inference.lesions import Lesion
from pe_unified.inference.reading import SliceReader
from pe_unified.reports.dicom_objects import MOST_SEGMENTS, write_dicom
from pe_unified.reports.file_names import (
    FINDINGS,
    LUNGS,
    MASK,
    PAGE,
    REDRAWN,
    REPORT,
    SEGMENTATION,
    SLICES,
)
from pe_unified.reports.mask_file import write_mask
from pe_unified.reports.page import write_page
from pe_unified.reports.report import is_listed
from pe_unified.reports.structured_report import Correction

_COLUMNS = (
    *("index", "sop_uid", "frame", "z_mm", "probability", "examined", "called", "embolus_pixels"),
    *("boxes", "highest_box_score"),
)
#: Prefix of folders that are being written; an older one than this is abandoned.
_PARTIAL, _ABANDONED_S = ".part-", 3600.0
_FILES = (REPORT, PAGE, SLICES, MASK, LUNGS, SEGMENTATION, FINDINGS)


def require_writable(out: Path) -> None:
    """Create the folder, and check before the work starts that it can be written to.

    Raises:
        DataError: it cannot be written to.
    """
    with _partial_folder(out) as partial:
        (partial / "probe").write_bytes(b"\0")


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """A folder to write into; at the end its files move into ``out``, the report last.

    If the work inside fails, nothing is left of it.

    Raises:
        DataError: ``out`` cannot be written to, or the disk is full.
    """
    with _partial_folder(out) as partial:
        yield partial
        remove_report(out)  # not every study has all of the files
        for path in sorted(partial.iterdir(), key=lambda path: path.name == REPORT):
            os.replace(path, out / path.name)


def remove_report(out: Path) -> None:
    """Remove the files of a report, ``report.json`` first, so that no report is ever incomplete."""
    for name in _FILES:
        (out / name).unlink(missing_ok=True)


def move_report(out: Path, target: Path) -> None:
    """Move a report with the masks that readers drew, ``report.json`` last.

    A move that was interrupted continues when it is repeated.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in (REDRAWN, *reversed(_FILES)):
        if (out / name).exists():
            os.replace(out / name, target / name)


@contextmanager
def _partial_folder(out: Path) -> Iterator[Path]:
    """A folder within ``out`` that is removed at the end."""
    partial = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove_partial(out, _ABANDONED_S)
        partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=out))
        yield partial
    except OSError as error:
        cure = "choose another --out, or make room"
        raise DataError(out, "cannot be written to", cure, error) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def remove_partial(out: Path, older_than_s: float = 0.0) -> None:
    """Remove what a killed process left half-written, if it is at least this old."""
    for partial in out.glob(f"{_PARTIAL}*"):
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime >= older_than_s:
                shutil.rmtree(partial, ignore_errors=True)


def write_files(
    folder: Path,
    report: dict[str, Any],
    reader: SliceReader,
    lesions: Sequence[Lesion],
    renamed: Callable[[str], str] | None = None,
) -> None:
    """Write ``report.html`` and ``slices.csv``; ``mask.nii.gz`` if the model outlines lesions; for
    DICOM input also ``findings.sr.dcm`` and, if a lesion has a mask, ``mask.seg.dcm``.

    Masks, SEG and SR hold the findings, not the candidates that are not called.

    Args:
        folder: output folder.
        report: of the study; a note is added for each file that could not be written.
        reader: gives the slices.
        lesions: as in the report, with their pixels.
        renamed: pseudonyms for the DICOM objects; None keeps patient and study.
    """
    study = reader.study
    listed = [lesion for lesion in lesions if lesion.listed]
    write_slices(folder / SLICES, report)
    if study.sop_uids:
        report["input"]["notes"] += write_dicom_where_possible(
            folder, report, study, listed, renamed
        )
    if "seg" in report["model"]["tasks"]:
        write_mask(folder / MASK, study, {lesion.number: lesion.pixels for lesion in listed})
    else:
        report["input"]["notes"].append(f"no {MASK}: the model does not outline lesions")
    write_page(folder / PAGE, report, reader, lesions)


def write_dicom_where_possible(
    folder: Path,
    report: Mapping[str, Any],
    study: CTStudy,
    lesions: Sequence[Lesion],
    renamed: Callable[[str], str] | None,
    correction: Correction | None = None,
) -> list[str]:
    """Write SEG and SR if the headers allow it; returns notes on what is missing.

    Args:
        folder, report, study, lesions, renamed, correction: see
            :func:`~pe_unified.reports.dicom_objects.write_dicom`.
    """
    missing = _what_is_missing(study)
    if missing:
        return [f"no SEG and no SR: {missing}"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the warnings quote the patient's name
            write_dicom(folder, report, study, lesions, renamed, correction)
    except OSError:
        raise
    except Exception as error:  # no header may prevent the report
        for name in (SEGMENTATION, FINDINGS):
            (folder / name).unlink(missing_ok=True)
        fault, kind = "lack required values or hold invalid ones", type(error).__name__
        return [f"no SEG and no SR: the DICOM headers {fault} ({kind})"]
    if len(lesions) > MOST_SEGMENTS:
        return [f"SEG and SR hold the first {MOST_SEGMENTS} of {len(lesions)} lesions"]
    return []


def _what_is_missing(study: CTStudy) -> str:
    """Why no SEG or SR can refer to this study; made-up references would point to nothing."""
    if not study.placed:
        return "the positions of the slices are unknown"
    uids = {
        "StudyInstanceUID": study.study_uid,
        "SeriesInstanceUID": study.series_uid,
        "SOPInstanceUID": all(study.sop_uids),
    }
    missing = [name for name, uid in uids.items() if not uid]
    return f"the slices have no {' and no '.join(missing)} to refer to" if missing else ""


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.json``."""
    write_text(folder / REPORT, json.dumps(report, indent=1, allow_nan=False) + "\n")


def write_slices(path: Path, report: Mapping[str, Any]) -> None:
    """Write one row per slice: index, sop_uid, frame, z_mm, probability, examined, called,
    embolus_pixels, boxes and the highest score of a box. Candidates that are not called are not
    counted."""
    listed = {lesion["number"] for lesion in report["lesions"] if is_listed(lesion)}
    rows = []
    for each in report["slices"]:
        scores = [box["score"] for box in each["boxes"] if box["lesion"] in listed]
        rows.append(
            {
                **each,
                "examined": int(each["examined"]),
                "called": None if each["called"] is None else int(each["called"]),
                "boxes": len(scores),
                "highest_box_score": max(scores, default=None),
            }
        )
    write_text(path, csv_text(_COLUMNS, rows))
