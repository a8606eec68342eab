"""DeLong's interval of an AUC, for comparison with published intervals.

It assumes independent cases. If patients have several cases, such as slices, it is too narrow; use
the intervals of ``intervals.py``.

DeLong et al., Biometrics 1988;44:837-845; computed in n log n from midranks as in Sun and Xu, IEEE
Signal Process Lett 2014;21:1389-1393. The limits are computed on the logit scale, so they stay
between 0 and 1 (Pepe 2003, section 5.2.4).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from pe_unified.evaluation.intervals import LEVEL, Estimate


def auc_with_variance(label: ArrayLike, score: ArrayLike) -> tuple[float, float]:
    """Area under the ROC curve and its DeLong variance.

    Args:
        label: (cases,), 0 or 1.
        score: (cases,).

    Returns:
        Area, NaN if a class is absent; and variance, NaN if a class has only one case.

    Raises:
        ValueError: shapes differ, or a score is NaN.
    """
    positive = np.asarray(label).astype(bool)
    values = np.asarray(score, dtype=np.float64)
    if positive.ndim != 1 or positive.shape != values.shape:
        raise ValueError(f"one score per label, got {values.shape} for {positive.shape} labels")
    if np.isnan(values).any():
        raise ValueError("a score is NaN")
    above, below = values[positive], values[~positive]
    if not len(above) or not len(below):
        return float("nan"), float("nan")
    ranks = rankdata(values)
    # Share of the other class that each case beats; ties count one half.
    won = (ranks[positive] - rankdata(above)) / len(below)
    lost = 1 - (ranks[~positive] - rankdata(below)) / len(above)
    area = float(won.mean())
    if min(len(above), len(below)) < 2:
        return area, float("nan")
    return area, float(won.var(ddof=1) / len(above) + lost.var(ddof=1) / len(below))


def auc_interval(label: ArrayLike, score: ArrayLike, level: float = LEVEL) -> Estimate:
    """The area with DeLong's interval on the logit scale.

    The interval is undefined if the variance is zero or undefined: perfectly separated cases, or
    identical scores, do not show how the area varies.

    Args:
        label, score: as in :func:`auc_with_variance`.
        level: coverage.
    """
    area, variance = auc_with_variance(label, score)
    if not variance > 0:
        return Estimate(area, float("nan"), float("nan"))
    reach = norm.ppf((1 + level) / 2) * np.sqrt(variance) / (area * (1 - area))
    centre = logit(area)
    return Estimate(area, float(expit(centre - reach)), float(expit(centre + reach)))
