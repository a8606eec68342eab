"""The reports in a folder as rows of a worklist that is kept up to date."""

import csv
import hashlib
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom

from pe_unified.errors import DataError, shown
from pe_unified.reports.file_names import FINDINGS, REPORT
from pe_unified.reports.report import is_listed, looks_for_lesions, verdict_in_words
from pe_unified.review.reports import StudyReport, complete, find_reports

_PATIENT_TAGS = ("PatientName", "PatientID", "StudyDate")


@dataclass(frozen=True)
class Entry:
    """One report.

    Attributes:
        key: used in pages and URLs; reveals no name.
        name: of the folder below the root; may contain a patient's name.
        found: location of the report, and the study name used in decisions.
        row: what the worklist shows of the report, without names.
        stamp: changes when the report is written again.
    """

    key: str
    name: str
    found: StudyReport
    row: Mapping[str, Any]
    stamp: tuple[int, int]


class Worklist:
    """The reports of one folder; only changed ones are read again.

    Args:
        root: output folder of ``pe-unified infer`` or ``pe-unified batch``. Nothing outside it is
            read: links that lead out of it are ignored.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._entries: dict[str, Entry] = {}
        self._faults: list[DataError] = []
        self._lock = threading.Lock()

    def entries(self) -> dict[str, Entry]:
        """All readable reports, by key; :meth:`failures` lists the others.

        Raises:
            DataError: no such folder.
        """
        with self._lock:
            entries: dict[str, Entry] = {}
            reports, faults = find_reports(self.root)
            for found in reports.values():
                if not (found.folder / REPORT).resolve().is_relative_to(self.root):
                    continue
                try:
                    entry = self._entry(found)
                except FileNotFoundError:  # it is being written again
                    continue
                except DataError as fault:
                    faults.append(fault)
                else:
                    entries[entry.key] = entry
            self._entries, self._faults = entries, faults
            return dict(entries)

    def entry(self, key: str) -> Entry | None:
        """The present report of a key; None if there is none."""
        known = self._entries.get(key)
        # Slices are requested many times a second, so the other reports are not checked.
        with suppress(FileNotFoundError):
            if known is not None and known.stamp == _stamp(known.found):
                return known
        return self.entries().get(key)

    def failures(self) -> list[dict[str, str]]:
        """Studies of a batch that could not be analysed, and reports that cannot be read: ``name``
        and ``reason``, both of which may contain a patient's name."""
        damaged = [
            {"name": Path(fault.where).relative_to(self.root).as_posix(), "reason": fault.reason}
            for fault in self._faults
        ]
        path = self.root / "summary.csv"
        # The table is missing after a single study, or may come from another program.
        with suppress(OSError, ValueError, KeyError, csv.Error):
            rows = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
            return damaged + [
                {"name": row["study"], "reason": row["reason"]}
                for row in rows
                if row["status"] == "failed"
            ]
        return damaged

    def _entry(self, found: StudyReport) -> Entry:
        name = found.folder.relative_to(self.root).as_posix()
        key = hashlib.blake2b(found.study.encode(), digest_size=8).hexdigest()
        known, stamp = self._entries.get(key), _stamp(found)
        if known is not None and (known.stamp, known.found) == (stamp, found):
            return known
        own = self.root.name if name == "." else name
        with complete(found.folder / REPORT):
            return Entry(key, own, found, row_of(found.read()), stamp)


def _stamp(found: StudyReport) -> tuple[int, int]:
    stat = (found.folder / REPORT).stat()
    return stat.st_mtime_ns, stat.st_size


def row_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the worklist shows of a report, without names."""
    exam, looks = report["exam"], looks_for_lesions(report)
    scores = [score for score in (exam["probability"], exam["lesion_score"]) if score is not None]
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
    """Name, ID and date of the patient from the report's DICOM file; empty without one."""
    path = entry.found.folder / FINDINGS
    with suppress(OSError):
        return _patient_in(path, path.stat().st_mtime_ns)
    return {}


@lru_cache(maxsize=4096)
def _patient_in(path: Path, time_ns: int) -> dict[str, str]:
    """Cached until the file changes: worklists are requested every few seconds."""
    try:
        read = pydicom.dcmread(path, specific_tags=list(_PATIENT_TAGS))
        values = {tag: str(read.get(tag, "") or "") for tag in _PATIENT_TAGS}
    except Exception:  # a damaged file can fail in many ways; the row stays
        return {}
    return {tag: shown(value) for tag, value in values.items() if value}
