"""Coarse-to-fine reading along the body: which slices are read first, and which later.

Neighbouring thin slices show nearly the same. Every second or third slice is read first; the slices
in between are read only if one of the two enclosing slices reaches the gate.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pe_unified.evaluation.intervals import FloatArray
from pe_unified.evaluation.tables import IntArray

#: Largest distance of the slices that are read first, mm.
COARSE_MM = 3.0
#: Largest step between slices that are read first, however thin they are.
_MOST = 3
#: Share of the positive slices that may be left out.
LOST = 0.005


def coarse_step(step_mm: float) -> int:
    """The step between slices that are read first: 3, 2, or 1 for all slices.

    Args:
        step_mm: distance between neighbouring slices.
    """
    return int(np.clip(COARSE_MM / step_mm + 1e-3, 1, _MOST))


def coarse_slices(count: int, every: int, offset: int = 0) -> IntArray:
    """The slices that are read first: int64, ascending.

    The first and the last are always included, so that two enclose each of the others.

    Args:
        count: number of all slices.
        every: result of :func:`coarse_step`.
        offset: start of the grid, below ``every``.
    """
    index = np.arange(count)
    return index[(index % every == offset) | (index == 0) | (index == count - 1)]


def slices_between(coarse: IntArray, matters: NDArray[np.bool_]) -> IntArray:
    """The slices that are read later: int64, ascending.

    Args:
        coarse: (n,), result of :func:`coarse_slices`.
        matters: bool (n,), whether the slices next to it are to be read.
    """
    wanted = matters[:-1] | matters[1:]
    pairs = zip(coarse[:-1][wanted], coarse[1:][wanted], strict=True)
    return np.concatenate([np.empty(0, np.int64), *(np.arange(a + 1, b) for a, b in pairs)])


@dataclass(frozen=True, eq=False)
class Series:
    """Neighbouring slices of a labelled study, from feet to head.

    Attributes:
        label: bool (slices,), whether the slice shows embolism.
        score: float64 (slices,), probability of embolism.
        step_mm: distance between neighbours.
    """

    label: NDArray[np.bool_]
    score: FloatArray
    step_mm: float


def whole_series(rows: Iterable[tuple]) -> Iterator[Series]:
    """The series in which every slice from the first to the last is known.

    Args:
        rows: slices in any order: patient, label, score, study, series, slice number, distance to
            the next slice in mm. Rows without number or distance are ignored.
    """
    series: dict[tuple, list[tuple]] = defaultdict(list)
    for patient, label, score, study, name, index, step_mm in rows:
        if index is not None and step_mm:
            series[patient, study, name].append((index, label, score, step_mm))
    for slices in series.values():
        index, label, score, step_mm = map(np.array, zip(*sorted(slices), strict=True))
        if (np.diff(index) == 1).all():
            yield Series(label.astype(bool), score, float(step_mm[0]))


@dataclass(frozen=True)
class CoarseGate:
    """The probability from which on the slices next to a slice are read.

    Attributes:
        gate: the probability.
        lost: share of the positive slices that are missed, over all offsets of the grid.
        positives: number of positive slices it was chosen on.
        studies: number of studies it was chosen on, including those without positive slices.
    """

    gate: float
    lost: float
    positives: int
    studies: int

    @property
    def numbers(self) -> dict[str, float]:
        """The values as stored in a checkpoint."""
        return {
            "coarse_gate": self.gate,
            "coarse_gate_lost": self.lost,
            "coarse_gate_positives": float(self.positives),
            "coarse_gate_studies": float(self.studies),
        }


def choose_coarse_gate(
    studies: Iterable[Series], highest: float = 1.0, lost: float = LOST
) -> CoarseGate | None:
    """The highest gate that misses at most this share of the positive slices.

    A positive slice is missed if it is not read first and both enclosing slices are below the gate.
    It counts once for every offset of the grid, because the position of emboli relative to the grid
    is arbitrary. The gate is not above the highest score beside a positive slice, even if all
    slices may be missed.

    Args:
        studies: studies with slices too thick for coarse reading are not counted.
        highest: upper limit of the gate.
        lost: largest share of missed slices.

    Returns:
        None if every positive slice is read first.
    """
    enclosed, weights, positives, count = [np.empty(0)], [np.empty(0)], 0, 0
    for study in studies:
        every = coarse_step(study.step_mm)
        if every == 1:
            continue
        count += 1
        positives += int(study.label.sum())
        before = np.concatenate([[0], np.cumsum(study.label)])
        for offset in range(every):
            coarse = coarse_slices(len(study.label), every, offset)
            first, last = coarse[:-1], coarse[1:]
            enclosed.append(np.maximum(study.score[first], study.score[last]))
            weights.append((before[last] - before[first + 1]) / every)
    score, weight = np.concatenate(enclosed), np.concatenate(weights)
    score, weight = score[weight > 0], weight[weight > 0]
    if not len(score):
        return None
    order = np.argsort(score)
    below = np.cumsum(weight[order]) - weight[order]
    allowed = np.flatnonzero(below <= lost * positives + 1e-9)
    # Of equal scores, all or none are missed.
    gate = min(float(score[order][allowed[-1]]), highest)
    return CoarseGate(gate, float(weight[score < gate].sum() / positives), positives, count)
