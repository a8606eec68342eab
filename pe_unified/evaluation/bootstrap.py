"""Confidence intervals by resampling patients, and paired differences between two arms.

Slices of one patient resemble each other, so patients are drawn with replacement, never
slices. Drawing a patient twice is the same as giving its slices the weight two; a metric is
therefore written once, as a function of patient weights, and serves for the point estimate
(all weights one), for every resample, and for comparisons on the same resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

#: Patient weights (resamples, patients) to values (resamples,) by metric name; NaN = undefined.
Statistic = Callable[[FloatArray], dict[str, FloatArray]]

#: Coverage of the intervals in tables and figures.
LEVEL = 0.95
#: An interval stands on at least this share of the resamples defining the metric.
MIN_DEFINED = 0.5


@dataclass(frozen=True)
class Estimate:
    """A metric with its percentile interval; NaN where undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Second arm minus first arm on the same patients.

    ``p_value`` is two-sided: twice the smaller share of resamples on either side of zero.
    """

    value: float
    low: float
    high: float
    p_value: float


def patient_weights(patients: int, resamples: int, seed: int) -> FloatArray:
    """How often each patient is drawn: (resamples, patients), every row sums to ``patients``."""
    if patients < 1:
        raise ValueError("there is no patient to resample")
    generator = np.random.default_rng(seed)
    shares = np.full(patients, 1.0 / patients)
    return generator.multinomial(patients, shares, size=resamples).astype(np.float64)


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Element-wise quotient; NaN where the denominator is zero."""
    result = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator != 0)


def percentile_interval(values: FloatArray, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval of the defined ``values`` (resamples,).

    (NaN, NaN) where fewer than half of the resamples define the metric: the rest would be a
    selection.
    """
    defined = values[~np.isnan(values)]
    if defined.size == 0 or defined.size < MIN_DEFINED * values.size:
        return float("nan"), float("nan")
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return float(low), float(high)


def estimate(
    statistic: Statistic, patients: int, resamples: int = 1000, seed: int = 0, level: float = LEVEL
) -> dict[str, Estimate]:
    """Point estimates with patient-bootstrap intervals.

    Args:
        statistic: the metrics as a function of patient weights.
        patients: their number; with fewer than two, intervals are undefined.
        resamples: draws; 0 leaves the intervals undefined.
        seed: of the draws; the same seed gives the same interval.
        level: coverage of the interval.
    """
    points = statistic(np.ones((1, patients)))
    if resamples < 1 or patients < 2:
        nan = float("nan")
        return {name: Estimate(float(value[0]), nan, nan) for name, value in points.items()}
    drawn = statistic(patient_weights(patients, resamples, seed))
    return {
        name: Estimate(float(value[0]), *percentile_interval(drawn[name], level))
        for name, value in points.items()
    }


def paired_difference(
    first: Statistic,
    second: Statistic,
    patients: int,
    resamples: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Difference]:
    """``second`` minus ``first`` for every metric that both give.

    Both must index the same patients in the same order; each resample draws the same patients
    for both, so that what varies between patients alone cancels.
    """
    if patients < 2:
        raise ValueError(f"a paired comparison needs two patients or more, got {patients}")
    if resamples < 1:
        raise ValueError(f"a paired comparison needs resamples, got {resamples}")
    ones = np.ones((1, patients))
    weights = patient_weights(patients, resamples, seed)
    point_first, point_second = first(ones), second(ones)
    drawn_first, drawn_second = first(weights), second(weights)
    differences = {}
    for name in point_first:
        if name not in point_second:
            continue
        drawn = drawn_second[name] - drawn_first[name]
        low, high = percentile_interval(drawn, level)
        differences[name] = Difference(
            float(point_second[name][0] - point_first[name][0]), low, high, _two_sided(drawn)
        )
    return differences


def _two_sided(drawn: FloatArray) -> float:
    defined = drawn[~np.isnan(drawn)]
    if defined.size == 0 or defined.size < MIN_DEFINED * drawn.size:
        return float("nan")
    below = (1 + np.count_nonzero(defined <= 0)) / (1 + defined.size)
    above = (1 + np.count_nonzero(defined >= 0)) / (1 + defined.size)
    return float(min(1.0, 2 * min(below, above)))


def mean_statistic(statistics: Sequence[Statistic]) -> Statistic:
    """The mean over repeated runs (seeds) of one arm, each run on the same resampled patients."""
    if not statistics:
        raise ValueError("an arm needs at least one run")

    def mean(weights: FloatArray) -> dict[str, FloatArray]:
        runs = [statistic(weights) for statistic in statistics]
        return {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}

    return mean
