"""Coarse-to-fine reading along the body: which slices are looked at first, and which only after.

Where slices are thin, neighbours show nearly the same. Every second or third is looked at first;
those in between follow only where one of the two that enclose them gives a reason.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pe_unified.evaluation.intervals import FloatArray
from pe_unified.evaluation.tables import IntArray

#: Slices that are looked at first lie no further apart, mm.
COARSE_MM = 3.0
#: At most every so many slices are looked at first, however thin they are.
_MOST = 3
#: Share of the positive slices that may be left out.
LOST = 0.005


def coarse_step(step_mm: float) -> int:
    """Every how many slices are looked at first: 3, 2, or 1, which is all of them.

    Args:
        step_mm: between neighbouring slices.
    """
    return int(np.clip(COARSE_MM / step_mm + 1e-3, 1, _MOST))


def coarse_slices(count: int, every: int, offset: int = 0) -> IntArray:
    """The slices that are looked at first: int64, ascending.

    The first and the last are among them, so that two enclose each of the others.

    Args:
        count: of all slices.
        every: of :func:`coarse_step`.
        offset: where the grid starts, below ``every``.
    """
    index = np.arange(count)
    return index[(index % every == offset) | (index == 0) | (index == count - 1)]


def slices_between(coarse: IntArray, matters: NDArray[np.bool_]) -> IntArray:
    """The slices that are looked at after: int64, ascending.

    Args:
        coarse: (n,), of :func:`coarse_slices`.
        matters: bool (n,), whether those beside it are to be looked at.
    """
    wanted = matters[:-1] | matters[1:]
    pairs = zip(coarse[:-1][wanted], coarse[1:][wanted], strict=True)
    return np.concatenate([np.empty(0, np.int64), *(np.arange(a + 1, b) for a, b in pairs)])


@dataclass(frozen=True, eq=False)
class Series:
    """Neighbouring slices of a labelled study, from feet to head.

    Attributes:
        label: bool (slices,), which show embolism.
        score: float64 (slices,), probability of embolism.
        step_mm: between neighbours.
    """

    label: NDArray[np.bool_]
    score: FloatArray
    step_mm: float


def whole_series(rows: Iterable[tuple]) -> Iterator[Series]:
    """The series of which every slice from the first to the last is known.

    Args:
        rows: of slices in any order: patient, label, score, study, series, number of the slice,
            step to the next one, mm. Those without number or step are left out.
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
    """From where on the probability of a slice gives a reason to look at those beside it.

    Attributes:
        gate: the probability.
        lost: share of the positive slices that are left out, over all offsets of the grid.
        positives: positive slices that it was fixed on.
        studies: that these are of, with those that have none.
    """

    gate: float
    lost: float
    positives: int
    studies: int

    @property
    def numbers(self) -> dict[str, float]:
        """As a checkpoint keeps them."""
        return {
            "coarse_gate": self.gate,
            "coarse_gate_lost": self.lost,
            "coarse_gate_positives": float(self.positives),
            "coarse_gate_studies": float(self.studies),
        }


def choose_coarse_gate(
    studies: Iterable[Series], highest: float = 1.0, lost: float = LOST
) -> CoarseGate | None:
    """The highest gate that leaves out at most this share of the positive slices.

    A positive slice is left out where it is not looked at first and both slices that enclose it lie
    below the gate. It counts once for every offset of the grid, as nobody knows where that of a
    new study starts in relation to its emboli.

    Args:
        studies: those that are too thick to be read coarsely are not counted.
        highest: the gate lies no higher.
        lost: the share.

    Returns:
        None where no positive slice would be passed over at first.
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
    # Of equal scores all or none are left out.
    gate = min(float(score[order][allowed[-1]]), highest)
    return CoarseGate(gate, float(weight[score < gate].sum() / positives), positives, count)
