"""From slices to the exam: one probability for the study."""

from collections.abc import Sequence

import numpy as np

#: Relevant emboli are visible over at least this height; a single high slice is noise.
HEIGHT_MM = 6.0


def exam_probability(
    probability: Sequence[float] | np.ndarray, step_mm: float, height_mm: float = HEIGHT_MM
) -> float:
    """The highest mean of the slices' probabilities over ``height_mm`` of the body.

    It ranks exams but is not a calibrated probability.

    Args:
        probability: (slices,), in anatomical order.
        step_mm: distance between neighbouring slices.

    Raises:
        ValueError: no slice, or a probability is NaN.
    """
    return float(_window_means(probability, step_mm, height_mm).max())


def stretches_from(
    probability: Sequence[float] | np.ndarray,
    step_mm: float,
    threshold: float,
    digits: int,
    height_mm: float = HEIGHT_MM,
) -> tuple[tuple[int, int], ...]:
    """Stretches whose mean over ``height_mm`` reaches a threshold: (first, last) slice, inclusive.

    Args:
        probability, step_mm: as in :func:`exam_probability`.
        digits: decimals to which the means are rounded before the comparison.
    """
    means = np.round(_window_means(probability, step_mm, height_mm), digits)
    width = len(probability) - len(means) + 1
    inside = np.zeros(len(probability) + 2, dtype=np.int8)
    for start in np.flatnonzero(means >= threshold):
        inside[start + 1 : start + 1 + width] = 1
    edges = np.diff(inside)
    firsts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return tuple((int(first), int(end) - 1) for first, end in zip(firsts, ends, strict=True))


def _window_means(
    probability: Sequence[float] | np.ndarray, step_mm: float, height_mm: float
) -> np.ndarray:
    values = np.asarray(probability, dtype=np.float64)
    if not len(values) or np.isnan(values).any():
        raise ValueError(f"an exam needs the probability of every slice, got {values}")
    width = int(np.clip(round(height_mm / step_mm), 1, len(values)))
    sums = np.cumsum(np.concatenate([[0.0], values]))
    return (sums[width:] - sums[:-width]) / width
