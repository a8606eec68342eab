"""One score per lesion from several predictions: a small logistic model.

It is fitted on lesions of validation patients, with the label whether the lesion touches an
embolus. A missing prediction (a lesion without a box, a model without classification) counts as
average, plus a separate weight if such lesions were present in fitting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from pe_unified.evaluation.intervals import FloatArray

#: Inputs for a lesion: mean probability of its pixels, highest score of its boxes, highest
#: probability of its slices, highest probability of its marks in 3D, and its volume.
ANSWERS = ("mask", "box", "slice", "mark", "volume")
#: Smallest number of true and of false lesions to fit a model.
LEAST = 10
#: Probabilities are clipped this far from 0 and 1, because their logits must be finite.
_MOST_CERTAIN = 1e-4
#: Penalty on the squared weights; 1 is scikit-learn's default.
_PENALTY = 1.0
_FOLDS = 5


def answers_row(
    mask: float | None,
    box: float | None,
    slice_: float | None,
    mark: float | None,
    volume_ml: float | None,
) -> FloatArray:
    """The inputs for one lesion, (5,) in the order of :data:`ANSWERS`; NaN where missing.

    Probabilities become log-odds, the volume (ml) its logarithm.
    """
    values = [np.nan if each is None else each for each in (mask, box, slice_, mark)]
    odds = logit(np.clip(np.array(values), _MOST_CERTAIN, 1 - _MOST_CERTAIN))
    return np.append(odds, np.nan if not volume_ml else np.log(volume_ml))


@dataclass(frozen=True)
class Term:
    """The contribution of one input to the log-odds of a lesion.

    Attributes:
        answer: one of :data:`ANSWERS`.
        mean, spread: mean and standard deviation in fitting, to standardise the input.
        weight: weight of the standardised input.
        missing: added if the input is missing.
    """

    answer: str
    mean: float
    spread: float
    weight: float
    missing: float


@dataclass(frozen=True)
class LesionFusion:
    """Log-odds that a lesion is an embolus: ``intercept`` plus the terms.

    Attributes:
        terms: terms of the inputs it was fitted with; others are ignored.
        lesions, true: number of lesions it was fitted on, and how many of them touch an embolus.
    """

    intercept: float
    terms: tuple[Term, ...]
    lesions: int
    true: int

    def score(self, rows: FloatArray) -> FloatArray:
        """Probabilities (lesions,) from (lesions, 5), see :func:`answers_row`."""
        total = np.full(len(rows), self.intercept)
        for term in self.terms:
            values = rows[:, ANSWERS.index(term.answer)]
            standard = (values - term.mean) / term.spread
            total += np.where(np.isnan(values), term.missing, term.weight * standard)
        return expit(total)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {**asdict(self), "terms": [asdict(term) for term in self.terms]}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "LesionFusion":
        return cls(**{**stored, "terms": tuple(Term(**each) for each in stored["terms"])})


def fit_fusion(rows: FloatArray, true: Sequence[bool] | np.ndarray) -> LesionFusion | None:
    """Fit by maximum likelihood, with a penalty on squared weights because lesions are few.

    A higher probability never lowers the score: the weights of probabilities are at least 0.

    Args:
        rows: (lesions, 5), see :func:`answers_row`.
        true: (lesions,), whether they touch an embolus.

    Returns:
        None with fewer than :data:`LEAST` true or false lesions, or if every input is constant.
    """
    label = np.asarray(true, dtype=bool)
    if min(label.sum(), (~label).sum()) < LEAST:
        return None
    columns, kept, bounds = [], [], []
    for number, answer in enumerate(ANSWERS):
        values = rows[:, number]
        known = values[~np.isnan(values)]
        if len(known) < 2 or known.std() < 1e-9:
            continue
        mean, spread = float(known.mean()), float(known.std())
        absent = np.isnan(values)
        columns += [np.where(absent, 0.0, (values - mean) / spread), absent.astype(np.float64)]
        bounds += [(None if answer == "volume" else 0.0, None), (None, None)]
        kept.append((answer, mean, spread))
    if not kept:
        return None
    design, sign = np.stack(columns, axis=1), np.where(label, 1.0, -1.0)

    def loss(values: FloatArray) -> tuple[float, FloatArray]:
        margin = sign * (values[0] + design @ values[1:])
        pull = -sign * expit(-margin)
        gradient = np.append(pull.sum(), design.T @ pull + _PENALTY * values[1:])
        total = np.logaddexp(0.0, -margin).sum() + _PENALTY / 2 * (values[1:] ** 2).sum()
        return float(total), gradient

    start = np.zeros(design.shape[1] + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(None, None), *bounds]).x
    weights = found[1:].reshape(-1, 2)
    terms = tuple(
        Term(*each, weight=float(weight), missing=float(missing))
        for each, (weight, missing) in zip(kept, weights, strict=True)
    )
    return LesionFusion(float(found[0]), terms, len(label), int(label.sum()))


def scores_out_of_fold(
    rows: FloatArray,
    true: Sequence[bool] | np.ndarray,
    groups: Sequence[str],
    fusion: LesionFusion,
) -> FloatArray:
    """Unbiased scores (lesions,) of the lesions that ``fusion`` was fitted on.

    The scores of each fifth of the groups come from a fit on the others, or from ``fusion`` if
    the others have too few lesions. A threshold chosen on these scores is valid for new patients.

    Args:
        rows, true: as in :func:`fit_fusion`.
        groups: (lesions,), of each lesion: its patient, or the group of its patient.
        fusion: the fusion fitted on all lesions.
    """
    label = np.asarray(true, dtype=bool)
    place = {group: number for number, group in enumerate(sorted(set(groups)))}
    fold = np.array([place[group] % _FOLDS for group in groups], dtype=int)
    scores = fusion.score(rows)
    for number in np.unique(fold):
        own = fold == number
        others = fit_fusion(rows[~own], label[~own])
        if others is not None:
            scores[own] = others.score(rows[own])
    return scores
