"""Confidence intervals over patients, and paired differences between two arms.

Slices of one patient resemble each other, so patients are left out, never slices: an interval is
computed from the change of a metric when one patient is left out (the jackknife). A metric is a
function of patient weights, used for the point estimate (all weights one), for every subset, and
for comparisons on the same subsets.

The limits come from Student's t distribution. Its degrees of freedom are the number of patients
minus one if all contribute equally to the metric, and fewer if a few patients dominate, as in
Satterthwaite (1946), from the fourth moment. For the coverage of these intervals see
docs/intervals.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logit

from pe_unified.evaluation.tables import IntArray, Table

FloatArray = NDArray[np.float64]

#: Patient weights (subsets, patients) to values (subsets,) by metric name; NaN = undefined.
Statistic = Callable[[FloatArray], dict[str, FloatArray]]

#: Coverage of the intervals in tables and figures.
LEVEL = 0.95
#: Largest number of subsets: more patients than this are left out in blocks of several.
RESAMPLES = 200
#: With fewer patients, or groups of them, than this, a warning is issued.
FEW = 10


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval; NaN if undefined."""

    value: float
    low: float
    high: float


def with_ends(estimates: Mapping[str, Estimate], prefix: str = "") -> dict[str, Any]:
    """Metrics as results store them: ``<prefix><name>``, and its ``..._ci``, ``[low, high]``."""
    found: dict[str, Any] = {}
    for name, each in estimates.items():
        found |= {f"{prefix}{name}": each.value, f"{prefix}{name}_ci": [each.low, each.high]}
    return found


@dataclass(frozen=True)
class Difference:
    """Second arm minus first arm on the same patients.

    ``p_value`` is two-sided, from the same t statistic: below 0.05 if the 95 % interval excludes
    zero.
    """

    value: float
    low: float
    high: float
    p_value: float


def subset_weights(
    patients: int | IntArray, resamples: int = RESAMPLES, seed: int = 0
) -> FloatArray:
    """Weights that leave out each patient in turn: 1 = kept, 0 = left out.

    Args:
        patients: their number; or int64 (patients,), the group of each, numbered from 0. Groups (of
            patients that are not independent) are left out as a whole.
        resamples: largest number of subsets; more groups than this are divided into this number of
            blocks.
        seed: seed of the division into blocks.

    Returns:
        (subsets, patients).

    Raises:
        ValueError: there is no patient.
    """
    group = np.arange(patients) if isinstance(patients, int) else patients
    groups = int(group.max(initial=-1)) + 1
    if groups < 1:
        raise ValueError("there is no patient to leave out")
    blocks = min(groups, resamples)
    dealt = np.arange(groups)
    if groups > blocks:
        dealt = np.random.default_rng(seed).permutation(groups) % max(1, blocks)
    return (dealt[group][None, :] != np.arange(blocks)[:, None]).astype(np.float64)


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Element-wise ratio; NaN where the denominator is zero."""
    result = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator != 0)


def standard_error(value: FloatArray, left_out: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The jackknife standard error of ``value`` (...,), and the degrees of freedom of its t.

    Args:
        left_out: (subsets, ...), the value without each patient. If any is undefined, so is the
            error: a metric that depends on a single patient has no interval.
    """
    subsets = len(left_out)
    if subsets < 2:
        return np.full(np.shape(value), np.nan), np.ones(np.shape(value))
    squares = (left_out - value) ** 2
    total = squares.sum(axis=0)
    # How unevenly patients contribute to the value: 0 if all contribute equally.
    uneven = np.maximum(0.0, subsets * ratio((squares**2).sum(axis=0), total**2) - 1)
    usual = 2 * (subsets - 2) / (subsets + 1)
    freedom = (subsets - 1) * ratio(np.full(np.shape(total), usual), uneven)
    freedom = np.clip(np.nan_to_num(freedom, nan=subsets - 1.0), 1.0, subsets - 1.0)
    return np.sqrt((subsets - 1) / subsets * total), freedom


#: A share is between 0 and 1, an amount above 0, a difference is unbounded.
Scale = Literal["share", "amount", "difference"]


def scale_of(name: str) -> Scale:
    """The scale of a metric by its name: a share, except for losses, lengths, counts and errors."""
    if name.endswith(("weighted_bce", "_mm", "abs_ml", "per_scan")):
        return "amount"
    return "difference" if name.endswith("_ml") else "share"


def interval_ends(
    value: FloatArray, left_out: FloatArray, level: float = LEVEL, scale: Scale = "share"
) -> tuple[FloatArray, FloatArray]:
    """Limits of the interval of ``value`` (...,); NaN where undefined.

    Args:
        left_out: (subsets, ...), the value without each patient.
        level: coverage.
        scale: limits of a share in (0, 1) are computed on the logit scale and stay in (0, 1), those
            of an amount on the logarithmic scale, where they stay above 0.
    """
    error, freedom = standard_error(value, left_out)
    reach = stats.t.ppf((1 + level) / 2, freedom) * error
    if scale == "difference":
        return value - reach, value + reach
    if scale == "amount":
        factor = np.exp(ratio(reach, value))
        return value / factor, value * factor
    inside = (value > 0) & (value < 1)
    within = np.where(inside, value, 0.5)
    centre, stretched = logit(within), reach / (within * (1 - within))
    low = np.where(inside, expit(centre - stretched), value - reach)
    high = np.where(inside, expit(centre + stretched), value + reach)
    low = np.where(value == 0, np.maximum(low, 0.0), low)
    high = np.where(value == 1, np.minimum(high, 1.0), high)
    return np.minimum(low, value), np.maximum(high, value)


def estimate(
    statistic: Statistic,
    patients: int | IntArray,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Point estimates with intervals over patients.

    Args:
        statistic: the metrics as a function of patient weights.
        patients: their number, or the group of each, as in :func:`subset_weights`; with fewer than
            two, intervals are undefined.
        resamples: largest number of subsets; with 0, intervals are undefined.
        seed: seed of the blocks, if there are more groups than ``resamples``.
        level: coverage of the interval.
    """
    found = {}
    for name, values in _evaluated(statistic, subset_weights(patients, resamples, seed)).items():
        low, high = interval_ends(values[0], values[1:], level, scale_of(name))
        found[name] = Estimate(float(values[0]), float(low), float(high))
    return found


def paired_difference(
    first: Statistic,
    second: Statistic,
    patients: int | IntArray,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Difference]:
    """``second`` minus ``first`` for every metric of both.

    Both must index the same patients in the same order; each subset leaves the same patient out of
    both, so that variation between patients cancels.
    """
    if resamples < 1:
        raise ValueError(f"a paired comparison needs resamples, got {resamples}")
    weights = subset_weights(patients, resamples, seed)
    if len(weights) < 2:
        raise ValueError(
            "a paired comparison needs two patients or more, independent of each other; there is "
            f"{len(weights)}"
        )
    found_first, found_second = _evaluated(first, weights), _evaluated(second, weights)
    differences = {}
    for name in found_first:
        if name not in found_second:
            continue
        value, *left_out = found_second[name] - found_first[name]
        error, freedom = standard_error(value, np.array(left_out))
        reach = stats.t.ppf((1 + level) / 2, freedom) * error
        t = ratio(np.abs(value), error)
        # Arms that are equal for every patient have no error and no difference.
        p_value = 1.0 if value == 0 else 0.0 if error == 0 else 2 * stats.t.sf(t, freedom)
        differences[name] = Difference(
            float(value), float(value - reach), float(value + reach), float(p_value)
        )
    return differences


def _evaluated(statistic: Statistic, weights: FloatArray) -> dict[str, FloatArray]:
    """For every metric (1 + subsets,): the value of all patients, then of every subset."""
    return statistic(np.concatenate([np.ones((1, weights.shape[1])), weights]))


def mean_statistic(statistics: Sequence[Statistic]) -> Statistic:
    """The mean over runs (seeds) of an arm on the same patients, for their common metrics."""
    if not statistics:
        raise ValueError("an arm needs at least one run")

    def mean(weights: FloatArray) -> dict[str, FloatArray]:
        runs = [statistic(weights) for statistic in statistics]
        common = [name for name in runs[0] if all(name in run for run in runs)]
        return {name: np.mean([run[name] for run in runs], axis=0) for name in common}

    return mean


def few_patients(table: Table) -> str:
    """A warning that intervals are over too few patients; empty if there are enough."""
    independent = len(set(table.groups or table.patients))
    if independent >= FEW:
        return ""
    said = f"{len(table.patients)} patients"
    if independent < len(table.patients):
        said += f" in {independent} groups that are independent"
    return f"{said}: intervals over fewer than {FEW} are wide and depend on these few patients"


def warnings_of(tables: Mapping[str, Table]) -> list[str]:
    """Warnings about the intervals of these tables; tasks with the same one share it."""
    tasks: dict[str, list[str]] = {}
    for task, table in tables.items():
        if few := few_patients(table):
            tasks.setdefault(few, []).append(task)
    return [f"{', '.join(names)}: {few}" for few, names in tasks.items()]
