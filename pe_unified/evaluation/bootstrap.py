"""Percentile bootstrap intervals, as most published FROC curves have them.

Cases, or groups of them, are drawn with replacement. With few cases these intervals are too narrow
(docs/intervals.md); those of :mod:`~pe_unified.evaluation.intervals` have better coverage.
"""

import numpy as np

from pe_unified.evaluation.intervals import (
    LEVEL,
    Difference,
    Estimate,
    FloatArray,
    Statistic,
)
from pe_unified.evaluation.tables import IntArray

#: Number of bootstrap draws.
DRAWS = 1000
#: Number of patients, or groups of them, below which these intervals are clearly too narrow.
FEW = 20


def drawn_weights(units: int | IntArray, draws: int = DRAWS, seed: int = 0) -> FloatArray:
    """How often each patient is drawn, whole groups at a time: (draws, patients).

    Args:
        units: the number of patients; or int64 (patients,), the group of each, from 0.
    """
    group = np.arange(units) if isinstance(units, int) else units
    groups = int(group.max(initial=-1)) + 1
    rng = np.random.default_rng(seed)
    times = rng.multinomial(groups, np.full(groups, 1 / groups), draws)
    return times[:, group].astype(np.float64)


def estimate(
    statistic: Statistic,
    patients: int | IntArray,
    resamples: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Like :func:`pe_unified.evaluation.intervals.estimate`; ignores undefined draws."""
    found = {}
    weights = drawn_weights(patients, resamples, seed)
    drawn = statistic(weights)
    for name, value in statistic(np.ones((1, weights.shape[1]))).items():
        low, high = _ends(drawn[name], weights, level)
        found[name] = Estimate(float(value[0]), low, high)
    return found


def paired_difference(
    first: Statistic,
    second: Statistic,
    patients: int | IntArray,
    resamples: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Difference]:
    """Like :func:`pe_unified.evaluation.intervals.paired_difference`, with the same draws for both.

    p is twice the smaller share of draws on one side of zero. The observed value counts as a draw
    (Davison and Hinkley 1997, section 4.2), so p is never 0.
    """
    weights = drawn_weights(patients, resamples, seed)
    ones = np.ones((1, weights.shape[1]))
    drawn, values = (first(weights), second(weights)), (first(ones), second(ones))
    found = {}
    for name in values[0].keys() & values[1].keys():
        differences = drawn[1][name] - drawn[0][name]
        defined = differences[~np.isnan(differences)]
        fewer = min((defined <= 0).sum(), (defined >= 0).sum())
        value = float(values[1][name][0] - values[0][name][0])
        known = len(defined) and not np.isnan(value)
        p_value = min(1.0, 2 * (1 + fewer) / (1 + len(defined))) if known else np.nan
        found[name] = Difference(value, *_ends(differences, weights, level), p_value)
    return {name: found[name] for name in values[0] if name in found}


def _ends(drawn: FloatArray, weights: FloatArray, level: float) -> tuple[float, float]:
    defined = drawn[~np.isnan(drawn)]
    # A single patient or group is in every draw, and the draws do not differ.
    if not len(defined) or (weights == 1).all():
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
