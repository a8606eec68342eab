"""The steps of an exam that an exam model reads: slices, or chunks of slices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from pe_unified.datasets.feature_store import FeatureError, FeatureStore, stored_name
from pe_unified.registry import TASK_UTILS

#: Smallest share of lung of a slice inside the lungs, relative to the exam's largest share.
_LUNG_SHARE = 0.05
#: Approximate extent of the heart between the lower (0) and upper (1) end of the lungs.
_HEART = (0.1, 0.5)

Span = Literal["all", "lungs", "heart"]
#: A plane through the body: indices of stored slices, with the weight of each.
Plane = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Step:
    """One step of an exam.

    Attributes:
        planes: its planes, from feet to head.
        middle: index of the slice that it represents.
        labelled: indices of the slices that determine its label.
    """

    planes: tuple[Plane, ...]
    middle: int
    labelled: tuple[int, ...]


def span_of(slices: Sequence[Mapping[str, Any]], span: Span) -> tuple[int, int]:
    """First and last slice of a part of the body, inclusive; all slices if lungs are unknown.

    Args:
        slices: entries of a data set, from feet to head, with ``lung_share``.
        span: ``"lungs"``: from the lowest to the highest slice with lung; ``"heart"``: the part of
            these where the heart is in most people.
    """
    shares = _shares(slices)
    if span == "all" or not shares.any():
        return 0, len(slices) - 1
    inside = np.flatnonzero(shares >= _LUNG_SHARE * shares.max())
    first, last = int(inside[0]), int(inside[-1])
    if span == "lungs":
        return first, last
    low, high = (first + share * (last - first) for share in _HEART)
    return round(low), round(high)


def _shares(slices: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Share of lung of every slice, float (slices,); 0 where unknown."""
    return np.array([each.get("lung_share") or 0.0 for each in slices])


def spread(steps: int, most: int | None) -> list[int]:
    """Indices of at most ``most`` of the steps, at equal distances; all for None."""
    if most is None or steps <= most:
        return list(range(steps))
    return np.rint(np.linspace(0, steps - 1, most)).astype(int).tolist()


def step_label(step: Step, labels: Sequence[int | None]) -> float:
    """1 if a slice of the step shows embolism; else NaN if a label is unknown, else 0."""
    own = [labels[index] for index in step.labelled]
    if any(label == 1 for label in own):
        return 1.0
    return float("nan") if None in own else 0.0


@TASK_UTILS.register_module()
class SliceSteps:
    """Every step is a slice, optionally with its neighbours (2.5D).

    Args:
        neighbours: number of slices added on each side; the outermost slice is repeated.
        span: part of the body.
    """

    volumes = False

    def __init__(self, neighbours: int = 0, span: Span = "all") -> None:
        self.neighbours = neighbours
        self.span: Span = span

    @property
    def planes(self) -> int:
        """Number of planes of a step."""
        return 2 * self.neighbours + 1

    def steps_of(self, slices: Sequence[Mapping[str, Any]]) -> list[Step]:
        """``slices``: one exam, from feet to head."""
        first, last = span_of(slices, self.span)
        return [self.step_at(place, len(slices)) for place in range(first, last + 1)]

    def step_at(self, place: int, slices: int) -> Step:
        """The step of one slice of an exam with this number of slices."""
        around = range(place - self.neighbours, place + self.neighbours + 1)
        planes = tuple(((min(max(each, 0), slices - 1), 1.0),) for each in around)
        return Step(planes, middle=place, labelled=(place,))


@TASK_UTILS.register_module()
class LungSlices(SliceSteps):
    """The slices of an exam that show the most lung, in their order.

    Args:
        count: number of slices; all slices of a shorter exam.
        neighbours: as in :class:`SliceSteps`.
        scores: folder of a :class:`~pe_unified.datasets.feature_store.FeatureStore` with one score
            per slice from a lung classifier (``configs/exam/lung_scores.py``); the slices with the
            highest scores are taken. With None, the slices with the largest ``lung_share``,
            measured from Hounsfield units; the same holds for a study outside a data set, which has
            no scores.
    """

    def __init__(self, count: int = 20, neighbours: int = 0, scores: str | None = None) -> None:
        super().__init__(neighbours)
        self.count = count
        self.scores = scores

    def steps_of(self, slices: Sequence[Mapping[str, Any]]) -> list[Step]:
        """``slices``: one exam from feet to head with ``lung_share``; in a set also ``study_uid``.

        Raises:
            FeatureError: there are no scores for this exam.
        """
        stored = self.scores is not None and "study_uid" in slices[0]
        lung = self._stored(slices) if stored else _shares(slices)
        most = np.argsort(-lung, kind="stable")[: self.count]
        return [self.step_at(place, len(slices)) for place in sorted(most.tolist())]

    @cached_property
    def _store(self) -> FeatureStore:
        return FeatureStore(self.scores or "")

    def _stored(self, slices: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Scores, float32 (slices,)."""
        scores = self._store.read(stored_name(slices[0]["study_uid"], slices))
        if scores.shape[1] != 1:
            raise FeatureError(
                f"{self.scores}: features of {scores.shape[1]} numbers per slice, where one score "
                "of lung is needed; name the folder that pe-unified extract exam/lung_scores made"
            )
        return np.asarray(scores[:, 0], dtype=np.float32)


@TASK_UTILS.register_module()
class ChunkSteps:
    """Every step is a stack of neighbouring planes, read as a volume.

    Planes are ``spacing_mm`` apart, whatever the distance of the slices: each is interpolated
    between the two nearest slices and has the label of the nearer one. If positions are unknown,
    the slices themselves are the planes. Chunks do not overlap; the last one is padded with its
    last plane.

    Args:
        planes: planes per chunk.
        spacing_mm: distance between planes; None takes the slices as they are.
        span: part of the body.
    """

    volumes = True

    def __init__(
        self, planes: int = 10, spacing_mm: float | None = 1.0, span: Span = "lungs"
    ) -> None:
        if planes < 1 or (spacing_mm is not None and spacing_mm <= 0):
            raise ValueError(
                f"planes must be at least 1 and spacing_mm above 0; got {planes} and {spacing_mm}"
            )
        self.planes = planes
        self.spacing_mm = spacing_mm
        self.span: Span = span

    def steps_of(self, slices: Sequence[Mapping[str, Any]]) -> list[Step]:
        """``slices``: one exam, from feet to head, with ``z_mm``."""
        planes = self._planes(slices)
        steps = []
        for start in range(0, len(planes), self.planes):
            own = planes[start : start + self.planes]
            own += own[-1:] * (self.planes - len(own))
            nearest = [max(plane, key=lambda part: part[1])[0] for plane in own]
            middle = nearest[self.planes // 2]
            steps.append(Step(tuple(own), middle, tuple(dict.fromkeys(nearest))))
        return steps

    def _planes(self, slices: Sequence[Mapping[str, Any]]) -> list[Plane]:
        first, last = span_of(slices, self.span)
        positions = [each["z_mm"] for each in slices[first : last + 1]]
        if self.spacing_mm is None or None in positions:
            return [((index, 1.0),) for index in range(first, last + 1)]
        z = np.array(positions, dtype=np.float64)
        count = int((z[-1] - z[0]) / self.spacing_mm + 1e-3) + 1
        wanted = z[0] + np.arange(count) * self.spacing_mm
        along = np.interp(wanted, z, np.arange(len(z))).round(3)
        planes: list[Plane] = []
        for place in along:
            below, share = int(place), float(place % 1)
            parts = [(first + below, 1 - share), (first + below + 1, share)]
            planes.append(tuple((index, part) for index, part in parts if part > 0))
        return planes
