"""The expected calibration error, from the reliability curve."""

import numpy as np
from numpy.typing import ArrayLike

from pe_unified.evaluation.calibration import BINS, reliability_curve


def expected_calibration_error(label: ArrayLike, probability: ArrayLike, bins: int = BINS) -> float:
    """Mean distance between share of positive cases and mean probability of a bin, over cases."""
    curve = reliability_curve(label, probability, bins)
    return float(np.average(np.abs(curve.probability - curve.share), weights=curve.count))
