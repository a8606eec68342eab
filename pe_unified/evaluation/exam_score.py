"""From slices to the exam: one probability for the study."""

from collections.abc import Sequence

import numpy as np

#: Emboli that matter are seen over at least this height; a single bright slice is noise.
HEIGHT_MM = 6.0


def exam_probability(
    probability: Sequence[float] | np.ndarray, step_mm: float, height_mm: float = HEIGHT_MM
) -> float:
    """The highest mean of the slices' probabilities over ``height_mm`` of the body.

    It ranks exams; as a probability it is not calibrated.

    Args:
        probability: (slices,), neighbours in the body side by side.
        step_mm: between neighbouring slices.

    Raises:
        ValueError: no slice, or a probability that is not a number.
    """
    values = np.asarray(probability, dtype=np.float64)
    if not len(values) or np.isnan(values).any():
        raise ValueError(f"an exam needs the probability of every slice, got {values}")
    width = int(np.clip(round(height_mm / step_mm), 1, len(values)))
    sums = np.cumsum(np.concatenate([[0.0], values]))
    return float(((sums[width:] - sums[:-width]) / width).max())
