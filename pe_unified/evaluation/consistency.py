"""The label rules of the RSNA-STR PE challenge, and the nearest consistent predictions.

A probability above 0.5 counts as positive. An exam with a positive slice is positive; :func:`check`
has the rules for positive and other exams.
"""

from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr

from pe_unified.ct.exam_labels import EXAM_WEIGHTS, IMAGE_WEIGHT
from pe_unified.evaluation.intervals import FloatArray

#: Digits of a probability in the challenge's file.
DIGITS = 6

_NAMES = tuple(EXAM_WEIGHTS)
_WEIGHTS = np.array(list(EXAM_WEIGHTS.values()))
_UNREAD = ("negative_exam_for_pe", "indeterminate")
_RATIOS = ("rv_lv_ratio_gte_1", "rv_lv_ratio_lt_1")
_PLACES = ("leftsided_pe", "rightsided_pe", "central_pe")
_CHRONIC = ("chronic_pe", "acute_and_chronic_pe")


def check(probability: ArrayLike, slice_probability: ArrayLike) -> list[str]:
    """Descriptions of the rules that an exam's predictions break; empty if they break none.

    Args:
        probability: (9,), in the order of EXAM_WEIGHTS.
        slice_probability: (slices,), at least one.

    Raises:
        ValueError: shapes do not fit, or a value is not a probability.
    """
    exam, slices = _checked(probability, slice_probability)
    on = {name for name, value in zip(_NAMES, exam) if value > 0.5}
    faults = []
    if (slices > 0.5).any():
        if named := on & set(_UNREAD):
            faults.append(f"slices are positive, yet the exam is {_listed(named)}")
        if len(on & set(_RATIOS)) != 1:
            faults.append(f"positive, yet not exactly one of {' and '.join(_RATIOS)}")
        if not on & set(_PLACES):
            faults.append(f"positive, yet none of {', '.join(_PLACES)}")
        if on >= set(_CHRONIC):
            faults.append(f"both of {' and '.join(_CHRONIC)}")
    else:
        if len(on & set(_UNREAD)) != 1:
            faults.append(f"no slice is positive, yet not exactly one of {' and '.join(_UNREAD)}")
        if named := on - set(_UNREAD):
            faults.append(f"no slice is positive, yet {_listed(named)}")
    return faults


def repair(
    probability: ArrayLike, slice_probability: ArrayLike, digits: int = DIGITS
) -> tuple[FloatArray, FloatArray]:
    """The nearest predictions that keep the rules, also after rounding.

    Predictions that already keep the rules are returned unchanged. Otherwise every combination of
    sides of 0.5 that the rules allow is tried: a probability on the wrong side moves to 0.5, or to
    the next number above it; all others stay. The result is the combination that raises the
    challenge's loss least, with the original predictions as truth (each label and slice positive
    with its probability). Ties are resolved in this order: negative, indeterminate, positive; then
    left, right, central; RV/LV at least 1, below 1; chronic, acute and chronic. Of equal slices the
    first is raised.

    After the repair by the challenge's winners (G. Xu and I. Pan, 2020). Their loss takes the
    repaired predictions as truth, and their repair finds no location if two tie.

    Args:
        probability, slice_probability: as in :func:`check`.
        digits: decimals in the file.

    Returns:
        float64 (9,) and (slices,), not rounded.
    """
    exam, slices = _checked(probability, slice_probability)
    rounded = check(np.round(exam, digits), np.round(slices, digits))
    if not rounded and not check(exam, slices):
        return exam, slices
    versions = np.where(_SIDES == 1, _above(exam, digits), exam)
    versions = np.where(_SIDES == 0, np.minimum(exam, 0.5), versions)
    positive = np.arange(len(_SIDES)) >= len(_UNREAD)
    to_positive, to_negative = slices.copy(), np.minimum(slices, 0.5)
    highest = int(np.argmax(slices))
    to_positive[highest] = _above(slices[highest], digits)
    costs = _divergence(exam, versions) @ _WEIGHTS
    image_weight = IMAGE_WEIGHT * slices.mean()
    costs += image_weight * np.where(
        positive, _divergence(slices, to_positive).sum(), _divergence(slices, to_negative).sum()
    )
    nearest = int(np.flatnonzero(np.isclose(costs, costs.min(), rtol=1e-12, atol=1e-16))[0])
    return versions[nearest], to_positive if positive[nearest] else to_negative


def _allowed_sides() -> FloatArray:
    """The combinations that the rules allow, (14, 9): 1 is on, 0 off, NaN either.

    The first two are for exams without a positive slice, the others for exams with one.
    """
    sides = []
    for name in _UNREAD:
        sides.append({**dict.fromkeys(_NAMES, 0.0), name: 1.0})
    for place, ratio, kept in product(_PLACES, _RATIOS, _CHRONIC):
        off = dict.fromkeys((*_UNREAD, *_RATIOS, *_CHRONIC), 0.0)
        sides.append({**off, kept: np.nan, place: 1.0, ratio: 1.0})
    return np.array([[side.get(name, np.nan) for name in _NAMES] for side in sides])


_SIDES = _allowed_sides()


def _above(probability: FloatArray, digits: int) -> FloatArray:
    """The probability itself if it is above 0.5 after rounding, else the next number that is."""
    least = round(0.5 + 10**-digits, digits)
    return np.where(np.round(probability, digits) > 0.5, probability, least)


def _divergence(truth: FloatArray, probability: FloatArray) -> FloatArray:
    """Increase of the expected log loss by a probability that differs from the true one."""
    return rel_entr(truth, probability) + rel_entr(1 - truth, 1 - probability)


def _listed(names: set[str]) -> str:
    return ", ".join(name for name in _NAMES if name in names)


def _checked(probability: ArrayLike, slice_probability: ArrayLike) -> tuple[FloatArray, FloatArray]:
    exam, slices = (np.array(each, np.float64) for each in (probability, slice_probability))
    if exam.shape != (len(_NAMES),) or slices.ndim != 1 or not len(slices):
        raise ValueError(
            f"an exam has {len(_NAMES)} probabilities and one per slice, got {exam.shape} and "
            f"{slices.shape}"
        )
    if not all(((each >= 0) & (each <= 1)).all() for each in (exam, slices)):
        raise ValueError("a probability lies between 0 and 1, and is not NaN")
    return exam, slices
