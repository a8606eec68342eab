"""The reports below one folder, as rows of a worklist that is kept up to date."""

import csv
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError

from pe_unified.errors import DataError, shown
from pe_unified.reports.dicom_objects import FINDINGS
from pe_unified.reports.files import REPORT
from pe_unified.reports.report import is_listed, looks_for_lesions, verdict_in_words

#: Reports lie in the folder itself, or in folders of studies of places below it.
_DEPTH = 2
_PATIENT_TAGS = ("PatientName", "PatientID", "StudyDate")


@dataclass(frozen=True)
class Entry:
    """One report.

    Attributes:
        key: what pages and addresses call it; tells no name.
        folder: of the report.
        name: the folder's, as it lies below the root; may hold a patient's name.
        study: what decisions are filed under: the study's UID, or the folder's name.
        row: what the worklist shows of the report, without names.
        stamp: changes when the report is written anew.
    """

    key: str
    folder: Path
    name: str
    study: str
    row: Mapping[str, Any]
    stamp: tuple[int, int]

    def report(self) -> dict[str, Any]:
        """What ``report.json`` holds.

        Raises:
            DataError: it is gone or damaged.
        """
        return read_report(self.folder)


def read_report(folder: Path) -> dict[str, Any]:
    """What ``report.json`` of a folder holds.

    Raises:
        DataError: it cannot be read, or is no report.
    """
    path, cure = folder / REPORT, "analyse the study again"
    try:
        report = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, "cannot be read", cure, error) from error
    if not isinstance(report, dict) or report.get("schema") != "pe_unified.report":
        raise DataError(path, "is no report", cure)
    return report


class Worklist:
    """The reports of one folder; reads again only what has changed.

    Args:
        root: folder of a report, or of folders of reports. Nothing outside it is read: links that
            lead out of it are left alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()

    def entries(self) -> dict[str, Entry]:
        """All reports that are whole, by key."""
        with self._lock:
            found = {}
            for folder in self._folders():
                entry = self._entry(folder)
                if entry is not None:
                    found[entry.key] = entry
            self._entries = found
            return dict(found)

    def entry(self, key: str) -> Entry | None:
        """The report of a key; None where there is none."""
        known = self._entries.get(key)
        if known is not None and (known.folder / REPORT).is_file():
            return known
        return self.entries().get(key)

    def failures(self) -> list[dict[str, str]]:
        """Studies of a batch that could not be analysed, ``name`` and ``reason``; both may hold a
        patient's name."""
        path = self.root / "summary.csv"
        try:
            if not _within(path, self.root):
                return []
            rows = csv.DictReader(path.read_text("utf-8-sig").splitlines())
            return [
                {"name": row["study"], "reason": row["reason"]}
                for row in rows
                if row.get("status") == "failed"
            ]
        except (OSError, ValueError, KeyError, csv.Error):  # no batch, or another program's table
            return []

    def _folders(self) -> Iterator[Path]:
        for place, names, files in os.walk(self.root):
            folder = Path(place)
            depth = len(folder.relative_to(self.root).parts)
            names[:] = sorted(each for each in names if not each.startswith("."))
            if depth >= _DEPTH:
                names.clear()
            if REPORT in files and _within(folder / REPORT, self.root):
                yield folder

    def _entry(self, folder: Path) -> Entry | None:
        name = folder.relative_to(self.root).as_posix()
        key = hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()
        known = self._entries.get(key)
        try:
            stat = (folder / REPORT).stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if known is not None and known.stamp == stamp:
                return known
            report = read_report(folder)
            row = row_of(report)
        except (OSError, DataError, KeyError, TypeError):  # is being written, or of another version
            return known
        name = self.root.name if name == "." else name
        study = report["input"]["study_uid"] or name
        return Entry(key, folder, shown(name), study, row, stamp)


def _within(path: Path, root: Path) -> bool:
    """Whether a file lies in a folder, wherever links lead."""
    return path.resolve().is_relative_to(root)


def row_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the worklist shows of a report; no names."""
    exam, looks = report["exam"], looks_for_lesions(report)
    scores = [
        score for score in (exam["probability"], exam["lesion_score"]) if score is not None
    ]
    listed = sum(map(is_listed, report["lesions"]))
    return {
        "created": report["created"],
        "positive": exam["positive"],
        "verdict": verdict_in_words(report),
        "score": max(scores, default=None),
        "lesions": listed if looks else None,
        "candidates": len(report["lesions"]) - listed if looks else None,
        "volume_ml": report["measurements"]["clot_volume_ml"],
        "slices": report["input"]["slices"],
        "abstain": report["quality"]["abstain"],
        "flags": [
            {"name": flag["name"], "reason": flag["reason"], "abstain": flag["abstain"]}
            for flag in report["quality"]["flags"]
        ],
        "model": report["model"]["checkpoint"],
        "notice": report["model"]["training_notice"],
    }


def patient_of(entry: Entry) -> dict[str, str]:
    """Name, ID and date of the patient as the report's DICOM file gives them; empty without."""
    try:
        read = pydicom.dcmread(entry.folder / FINDINGS, specific_tags=list(_PATIENT_TAGS))
    except (OSError, InvalidDicomError):
        return {}
    values = {tag: str(read.get(tag, "") or "") for tag in _PATIENT_TAGS}
    return {tag: shown(value) for tag, value in values.items() if value}
