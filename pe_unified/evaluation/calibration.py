"""Calibration of probabilities: measured, and fitted on the validation split."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from pe_unified.evaluation.intervals import FloatArray, Statistic, ratio
from pe_unified.evaluation.tables import IntArray, sum_by_patient

#: Bins of the expected calibration error and of reliability curves.
BINS = 10
#: While a calibration is fitted, probabilities are clipped this far from 0 and 1: a sigmoid in
#: float32 reaches both, and a logit must be finite.
MOST_CERTAIN = 1e-7


def equal_count_bins(probability: FloatArray, bins: int = BINS) -> IntArray:
    """The bin of each case, int64 (cases,), counted from 0.

    Bins end at the quantiles of the probabilities, so all have about the same number of cases.
    Equal probabilities share a bin, so a bin may be empty.
    """
    ends = np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(ends, probability)


@dataclass(frozen=True)
class ReliabilityCurve:
    """Cases by bins of equal count, from the lowest probability up; empty bins are left out.

    Fields:
        probability: float64 (bins,), mean of the bin.
        share: float64 (bins,), share of positive cases in the bin.
        count: int64 (bins,), cases in the bin.
    """

    probability: FloatArray
    share: FloatArray
    count: IntArray


def reliability_curve(
    label: ArrayLike, probability: ArrayLike, bins: int = BINS
) -> ReliabilityCurve:
    """Share of positive cases against the mean probability.

    Args:
        label: (cases,), 0 or 1.
        probability: (cases,), at least one.
    """
    positive, values = _checked(label, probability)
    bin_of = equal_count_bins(values, bins)
    count = np.bincount(bin_of, minlength=bins)
    sums = [np.bincount(bin_of, weights=each, minlength=bins) for each in (values, positive)]
    filled = count > 0
    means = [total[filled] / count[filled] for total in sums]
    return ReliabilityCurve(means[0], means[1], count[filled])


def calibration_statistic(
    label: ArrayLike, probability: ArrayLike, patient: IntArray, patients: int, bins: int = BINS
) -> Statistic:
    """``ece`` (expected calibration error) and ``brier`` as a function of patient weights.

    The error is the mean distance between the share of positive cases and the mean probability of
    a bin, over cases. Its bins are of equal count (Nixon et al., CVPR Workshops 2019), because bins
    of equal width are nearly empty if most exams are negative. With few cases per bin it is too
    large, because shares scatter. The bins are computed from all cases, whatever the weights. Both
    are undefined without a case.

    Args:
        label, probability: as in :func:`reliability_curve`; may be empty.
        patient: int64 (cases,), the column of the weights that applies to each case.
        patients: number of columns of the weights.
    """
    positive, values = _checked(label, probability)
    excess = np.zeros((len(values), bins))
    if len(values):
        excess[np.arange(len(values)), equal_count_bins(values, bins)] = values - positive
    cells = np.column_stack([np.ones(len(values)), (values - positive) ** 2, excess])
    by_patient = sum_by_patient(cells, patient, patients)

    def statistic(weights: FloatArray) -> dict[str, FloatArray]:
        cases, squares, *distances = (weights @ by_patient).T
        return {
            "ece": ratio(np.abs(distances).sum(axis=0), cases),
            "brier": ratio(squares, cases),
        }

    return statistic


@dataclass(frozen=True)
class Calibration:
    """A straight line on the logit scale: expit(slope * logit(p) + intercept).

    It never changes the ranking of exams.

    Attributes:
        slope: above 0.
        kept: why the probabilities are not changed; empty if the line was fitted.
    """

    slope: float = 1.0
    intercept: float = 0.0
    kept: str = ""

    def __post_init__(self) -> None:
        if not (0 < self.slope < np.inf and np.isfinite(self.intercept)):
            raise ValueError(
                "a calibration has a finite slope above 0 and a finite intercept, got "
                f"{self.slope} and {self.intercept}"
            )

    def apply(self, probability: ArrayLike) -> FloatArray:
        """Calibrated probabilities, of the same shape; 0, 1 and NaN are not changed."""
        values = np.asarray(probability, dtype=np.float64)
        if (self.slope, self.intercept) == (1.0, 0.0):
            return values.copy()
        return expit(self.slope * logit(values) + self.intercept)

    def as_floats(self) -> dict[str, float]:
        """The values that :meth:`of` reads, stored with the other choices of validation."""
        return {"calibration_slope": self.slope, "calibration_intercept": self.intercept}

    @classmethod
    def of(cls, chosen: Mapping[str, float], prefix: str = "exam") -> "Calibration":
        """The calibration fitted on validation, ``{"exam/calibration_slope": 0.8, ...}``.

        Without these keys probabilities are not changed, and ``kept`` says so.
        """
        keys = [f"{prefix}/{name}" for name in cls().as_floats()]
        if any(chosen.get(key) is None for key in keys):
            return cls(kept="none was fitted on validation")
        slope, intercept = (float(chosen[key]) for key in keys)
        return cls(slope, intercept)


def fit_calibration(label: ArrayLike, probability: ArrayLike) -> Calibration:
    """The calibration with the highest likelihood on this split; test it on another one.

    Platt (1999), without his prior on the labels.

    If no line is best, the probabilities are not changed and ``kept`` gives the reason: a class is
    absent; all probabilities are equal; the classes are perfectly separated, so that the likelihood
    has no maximum; or positive cases do not have the higher probabilities.

    Args:
        label: (cases,), 0 or 1.
        probability: (cases,).
    """
    positive, values = _checked(label, probability)
    scores = logit(np.clip(values, MOST_CERTAIN, 1 - MOST_CERTAIN))
    if positive.all() or not positive.any():
        return Calibration(kept="all cases are of one class")
    if np.ptp(scores) == 0:
        return Calibration(kept="the probabilities are all equal")
    if scores[positive].min() >= scores[~positive].max():
        return Calibration(kept="the classes are perfectly separated")
    no_better = Calibration(kept="positive cases do not have higher probabilities")
    if scores[positive].max() <= scores[~positive].min():
        return no_better
    centre, spread = scores.mean(), scores.std()
    columns = np.column_stack([(scores - centre) / spread, np.ones(len(scores))])

    def loss(line: FloatArray) -> tuple[float, FloatArray]:
        margin = columns @ line
        value = np.mean(np.logaddexp(0, margin) - positive * margin)
        return float(value), columns.T @ (expit(margin) - positive) / len(margin)

    slope, intercept = minimize(loss, np.zeros(2), jac=True, options={"gtol": 1e-9}).x
    slope /= spread
    if slope <= 0:
        return no_better
    return Calibration(float(slope), float(intercept - slope * centre))


def ppv_npv(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    """Positive and negative predictive value at another prevalence than the split's (Bayes).

    A value is NaN if no exam would have that result, or if sensitivity or specificity is NaN,
    as on exams of one class.

    Raises:
        ValueError: an argument is not in 0..1.
    """
    for share in (sensitivity, specificity, prevalence):
        if share < 0 or share > 1:
            raise ValueError(f"a share lies between 0 and 1, got {share}")
    found, missed = sensitivity * prevalence, (1 - sensitivity) * prevalence
    spared, false = specificity * (1 - prevalence), (1 - specificity) * (1 - prevalence)
    return (
        found / (found + false) if found + false else math.nan,
        spared / (spared + missed) if spared + missed else math.nan,
    )


def _checked(label: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.bool_], FloatArray]:
    positive = np.asarray(label).astype(bool)
    values = np.asarray(probability, dtype=np.float64)
    if positive.ndim != 1 or positive.shape != values.shape:
        raise ValueError(
            f"one probability per label, got {values.shape} for {positive.shape} labels"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a probability lies between 0 and 1, and is not NaN")
    return positive, values
