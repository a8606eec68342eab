"""Orientation of slices in the patient, and distances between them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pe_unified.audit.findings import Finding
from pe_unified.errors import listed
from pe_unified.inference.quality import COARSE_MM, THICK_MM

#: Slices tilted by more than this are not axial, degrees.
_TILT_DEGREES = 20.0
#: Pixels whose sides differ by more than this share are not square.
_SQUARE = 0.01
#: A step longer than so many usual ones is a gap.
_GAP = 1.5


@dataclass(frozen=True)
class Series:
    """One series of a set.

    Fields:
        patient: patient that it belongs to.
        files: files of its slices, from feet to head.
        spacing_mm: row, column, slice; None where unknown.
        orientation: six numbers, or None.
        z_mm: positions of the slices that have one.
        size: rows and columns.
    """

    patient: str
    files: Sequence[str]
    spacing_mm: Sequence[float | None]
    orientation: Sequence[float] | None
    z_mm: np.ndarray
    size: tuple[int, int]

    @property
    def across(self) -> np.ndarray | None:
        """Direction from slice to slice, derived from those of rows and columns."""
        if self.orientation is None:
            return None
        along, down = np.reshape(self.orientation, (2, 3))
        return np.cross(along, down)


def series_of(images: Iterable[Mapping[str, Any]]) -> list[Series]:
    """The series of a set, from its entries."""
    grouped: dict[tuple, list[Mapping[str, Any]]] = defaultdict(list)
    for image in images:
        key = image["patient_id"], image["study_uid"], image["series_uid"] or ""
        grouped[key].append(image)
    found = []
    for (patient, *_), own in sorted(grouped.items()):
        own.sort(key=lambda image: image["slice_index"])
        z_mm = np.array([image["z_mm"] for image in own if image["z_mm"] is not None])
        found.append(
            Series(
                patient=patient,
                files=[image["file_name"] for image in own],
                spacing_mm=own[0]["spacing_mm"],
                orientation=own[0].get("orientation"),
                z_mm=z_mm,
                size=(own[0]["height"], own[0]["width"]),
            )
        )
    return found


def describe_geometry(series: Sequence[Series]) -> dict[str, Any]:
    """Ranges over the set, for the page."""

    def ends(place: int) -> list[float] | None:
        known = [value for each in series if (value := each.spacing_mm[place]) is not None]
        return [min(known), float(np.median(known)), max(known)] if known else None

    sizes = Counter(f"{rows} x {cols}" for rows, cols in (each.size for each in series))
    return {
        "series": len(series),
        "sizes": dict(sizes.most_common()),
        "pixel_mm": ends(0),
        "slice_mm": ends(2),
        "oriented": sum(each.orientation is not None for each in series),
    }


def geometry_findings(series: Sequence[Series]) -> Iterator[Finding]:
    """Faults of geometry that would mislead a network, or make a volume in ml wrong."""
    yield from _of("spacing", "spacing is unknown", [e for e in series if None in e.spacing_mm])
    known = [each for each in series if None not in each.spacing_mm]
    mm = {id(each): [float(value or 0) for value in each.spacing_mm] for each in known}
    yield from _of(
        "spacing",
        f"pixels are larger than {COARSE_MM:g} mm",
        [each for each in known if max(mm[id(each)][:2]) > COARSE_MM],
    )
    yield from _of(
        "spacing",
        f"slices are more than {THICK_MM:g} mm apart: small emboli are averaged away or missed",
        [each for each in known if mm[id(each)][2] > THICK_MM],
    )
    yield from _of(
        "spacing",
        "pixels are not square",
        [e for e in known if abs(mm[id(e)][0] / mm[id(e)][1] - 1) > _SQUARE],
    )
    yield from _of("spacing", "slices are missing in between", list(filter(_has_gap, series)))
    placed = [each for each in series if each.across is not None]
    if placed and len(placed) < len(series):
        unplaced = [each for each in series if each.orientation is None]
        yield from _of(
            "orientation", "orientation is unknown, although other series have one", unplaced
        )
    upright = np.cos(np.radians(_TILT_DEGREES))
    tilted = [each for each in placed if abs(_z(each)) < upright]
    yield from _of("orientation", "slices are not axial", tilted)
    ways = Counter(_way(each) for each in placed)
    if len(ways) > 1:
        usual = ways.most_common(1)[0][0]
        other = [each for each in placed if _way(each) != usual]
        yield from _of(
            "orientation", "rows or columns run in another direction than in most series", other
        )


def _z(series: Series) -> float:
    return float(series.across[2]) if series.across is not None else float("nan")


def _way(series: Series) -> tuple[int, int]:
    """The directions of columns and rows: the signs of left and back."""
    along, down = np.reshape(series.orientation, (2, 3))  # type: ignore[arg-type]
    return int(np.sign(np.round(along[0]))), int(np.sign(np.round(down[1])))


def _has_gap(series: Series) -> bool:
    steps = np.diff(series.z_mm)
    return len(steps) > 1 and bool(steps.max() > _GAP * np.median(steps) > 0)


def _of(check: str, what: str, series: Sequence[Series]) -> Iterator[Finding]:
    if series:
        patients = list(dict.fromkeys(each.patient for each in series))
        text = f"{what}: {len(series)} series of {listed(patients)}"
        files = [each.files[len(each.files) // 2] for each in series[:3]]
        yield Finding(check, "warning", text, items=patients, files=files)
