"""A report after correction by readers: the lesions that are kept, and the verdict."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.ct.study import CTStudy
from pe_unified.errors import DataError
from pe_unified.inference.joining import Part
from pe_unified.inference.lesions import Box, Lesion, describe_drawn
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey
from pe_unified.reports.file_names import MASK
from pe_unified.reports.mask_file import read_mask
from pe_unified.reports.report import is_listed, lesion_entry
from pe_unified.reports.structured_report import Correction
from pe_unified.review.decisions import VERDICTS, Decision
from pe_unified.review.store import ReviewStore

#: State of a lesion by the decision on it.
_FATES = {"accept": "accepted", "redraw": "redrawn", "reject": "rejected"}


@dataclass(frozen=True, eq=False)
class CorrectedStudy:
    """A study as corrected by readers.

    Attributes:
        report: the content of ``report.json``, with redrawn lesions measured again; added ones
            come last.
        lesions: those that are kept, by number; with pixels if there is a mask.
        fates: number to ``"accepted"``, ``"redrawn"``, ``"rejected"`` or ``"added"``.
        labels: number to the label that a reader gave to the lesion.
        verdict: on the exam: ``"positive"``, ``"negative"`` or ``"indeterminate"``.
        readers: whose decisions stand; first the one who last marked the study as done.
        decisions: those that stand.
    """

    report: dict[str, Any]
    lesions: list[Lesion]
    fates: dict[int, str]
    labels: dict[int, str]
    verdict: str
    readers: list[str]
    decisions: list[Decision] = field(default_factory=list)

    @property
    def correction(self) -> Correction:
        """The correction as the DICOM objects take it."""
        counts = Counter(self.fates.values())
        told = [f"{counts[fate]} {fate}" for fate in (*_FATES.values(), "added") if counts[fate]]
        also = f"; decisions of {', '.join(self.readers)}" if len(self.readers) > 1 else ""
        words = f"{self.verdict}: of the findings {', '.join(told) or 'none'}{also}"
        return Correction(
            self.readers[0],
            self.verdict,
            words,
            redrawn=frozenset(n for n, fate in self.fates.items() if fate == "redrawn"),
            added=frozenset(n for n, fate in self.fates.items() if fate == "added"),
        )


def correct(store: ReviewStore, name: str, study: CTStudy, reader: str | None) -> CorrectedStudy:
    """Apply the decisions on a study to its report.

    Args:
        store: of the decisions.
        name: of the study, as used in the decisions.
        study: its images.
        reader: whose decisions; None for the newest of all readers.

    Raises:
        DataError: it is not done, a finding has no decision, kept lesions overlap, or the verdict
            contradicts the lesions.
    """
    known = store.report(name)
    report = known.read()
    decisions = store.current(name, reader)
    done = [each for each in decisions if each.kind == "done"]
    if not done or store.state(name, reader) != "done":
        raise DataError(name, "is not done", "finish reading it")
    verdicts = {
        each.lesion: each for each in decisions if each.kind in VERDICTS and each.lesion is not None
    }
    open_ones = [
        str(each["number"])
        for each in report["lesions"]
        if is_listed(each) and each["number"] not in verdicts
    ]
    if open_ones:
        reason = f"is done, but nothing is decided on lesion {', '.join(open_ones)}"
        raise DataError(name, reason, "accept, redraw or reject it")
    fates = {number: _FATES[each.kind] for number, each in verdicts.items() if number}
    drawn = {number: each for number, each in verdicts.items() if each.kind == "redraw" and number}
    for each in decisions:
        if each.kind == "add":
            number = len(report["lesions"]) + 1 + sum(fate == "added" for fate in fates.values())
            fates[number], drawn[number] = "added", each
    lesions = _as_reported(report, known.folder / MASK, fates)
    described = _as_drawn(store, name, study, drawn)
    for number, lesion in described.items():
        entry = lesion_entry(lesion, study) | {"called": None, "score": None}
        entry["key_sop_uid"] = report["slices"][lesion.key_slice]["sop_uid"]  # may be a pseudonym
        if fates[number] == "added":
            report["lesions"].append(entry)
        else:
            entry["called"] = report["lesions"][number - 1]["called"]
            report["lesions"][number - 1] = entry
    kept = sorted([*lesions, *described.values()], key=lambda lesion: lesion.number)
    _require_apart(name, kept)
    labels = {
        each.lesion: str(each.value["label"])
        for each in decisions
        if each.kind == "relabel" and each.lesion is not None
    }
    verdict = exam_verdict(report, decisions)
    if (verdict == "negative") != (not kept) and verdict != "indeterminate":
        what = "no lesion is kept" if not kept else f"{len(kept)} lesions are kept"
        raise DataError(name, f"has the verdict {verdict}, but {what}", "correct one of them")
    readers = list(dict.fromkeys([done[-1].reader, *(each.reader for each in decisions)]))
    return CorrectedStudy(report, kept, fates, labels, verdict, readers, decisions)


def _require_apart(name: str, lesions: Sequence[Lesion]) -> None:
    """Refuse lesions that share pixels: one mask cannot hold both."""
    for one, other in combinations(lesions, 2):
        shared = one.pixels.keys() & other.pixels.keys()
        if any(np.intersect1d(one.pixels[index], other.pixels[index]).size for index in shared):
            raise DataError(
                name,
                f"has lesions {one.number} and {other.number} on the same pixels",
                "redraw, reject or undo one of them, or export one reader's decisions (--reader)",
            )


def exam_verdict(report: Mapping[str, Any], decisions: Sequence[Decision]) -> str:
    """The verdict of the readers: as given for the study, else as it follows from its lesions.

    Args:
        report: the content of ``report.json``.
        decisions: those that stand.
    """
    said = {each.kind: each for each in decisions if each.lesion is None}
    if "relabel" in said:
        return str(said["relabel"].value["label"])
    called = report["exam"]["positive"]
    verdicts = [each for each in decisions if each.kind in VERDICTS and each.lesion is None]
    if verdicts and called is not None:
        return "positive" if called == (verdicts[-1].kind == "accept") else "negative"
    stays = any(
        (each.kind in ("accept", "redraw") and each.lesion is not None) or each.kind == "add"
        for each in decisions
    )
    return "positive" if stays else "negative"


def _as_reported(report: Mapping[str, Any], mask: Path, fates: Mapping[int, str]) -> list[Lesion]:
    """The accepted lesions, with the pixels of the report's mask."""
    accepted = [number for number, fate in fates.items() if fate == "accepted"]
    if not accepted:
        return []
    labels = read_mask(mask, report) if mask.is_file() else np.zeros((0, 1, 1), np.uint8)
    boxes: dict[int, list[tuple[int, Box, float]]] = {}
    for entry in report["slices"]:
        for each in entry["boxes"]:
            own = (entry["index"], tuple(each["box"]), each["score"])
            boxes.setdefault(each["lesion"], []).append(own)
    found = []
    for number in accepted:
        words = report["lesions"][number - 1]
        x1, y1, x2, y2 = words["box"]
        middle = (float(words["key_slice"]), (y1 + y2) / 2 - 0.5, (x1 + x2) / 2 - 0.5)
        planes = range(words["first_slice"], min(words["last_slice"] + 1, len(labels)))
        pixels = {index: np.flatnonzero(labels[index] == number) for index in planes}
        place = words["centroid_mm"]
        found.append(
            Lesion(
                number=number,
                score=words["score"],
                mask_score=words["mask_score"],
                box_score=words["box_score"],
                slices=(words["first_slice"], words["last_slice"]),
                key_slice=words["key_slice"],
                box=(x1, y1, x2, y2),
                centroid=middle,
                centroid_mm=(place["x"], place["y"], place["z"]),
                side=words["side"],
                level=words["level_guess"],
                volume_ml=words["volume_ml"],
                diameter_mm=words["largest_diameter_mm"],
                mean_hu=words["mean_hu"],
                can_be_clot=words["can_be_clot"],
                pixels={index: own for index, own in pixels.items() if len(own)},
                boxes=tuple(boxes.get(number, ())),
                mark_score=words["mark_score"],
                slice_score=words["slice_score"],
                called=words["called"],
            )
        )
    return found


def _as_drawn(
    store: ReviewStore, name: str, study: CTStudy, drawn: Mapping[int, Decision]
) -> dict[int, Lesion]:
    """The lesions that readers drew, measured in the images."""
    if not drawn:
        return {}
    reader = SliceReader(study)
    first_look = survey(reader)
    found = {}
    for number, decision in drawn.items():
        if "mask" in decision.value:
            parts = _parts_of(store.load_mask(name, decision.value["mask"]))
        else:
            x, y, width, height = (float(edge) for edge in decision.value["box"])
            box = (x, y, x + width, y + height)
            index = int(decision.value["slice"])
            parts = [Part(index, np.empty(0, np.int32), 1.0, box, is_box=True)]
        lesion = describe_drawn(parts, reader, first_look)
        found[number] = replace(lesion, number=number)
    return found


def _parts_of(mask: np.ndarray) -> list[Part]:
    """One part per slice of a mask (slices, rows, cols)."""
    parts = []
    for index in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
        rows, cols = np.nonzero(mask[index])
        box = (float(cols.min()), float(rows.min()), cols.max() + 1.0, rows.max() + 1.0)
        pixels = np.flatnonzero(mask[index]).astype(np.int32)
        parts.append(Part(index, pixels, 1.0, box, is_box=False))
    return parts
