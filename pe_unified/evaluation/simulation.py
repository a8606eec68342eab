"""Simulated splits of patients, to measure the coverage of intervals."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from scipy.special import expit

from pe_unified.evaluation import bootstrap
from pe_unified.evaluation.detection import IOU_THRESHOLDS, DetTable
from pe_unified.evaluation.froc import LesionTable
from pe_unified.evaluation.intervals import FloatArray, Statistic, estimate, paired_difference
from pe_unified.evaluation.segmentation import BINS, SegTable
from pe_unified.evaluation.slices import SliceTable

#: Gain of the better of two unequal arms, on the scale of each simulation.
GAIN = 0.8
SLICES = 24
#: Patients of a split that approximates the truth, and number of such splits averaged.
TRUE_PATIENTS, TRUE_SPLITS = 1000, 40
#: Draws of the percentile bootstrap.
DRAWS = 200

Rng = np.random.Generator
#: Patients, gain of the second arm, generator: both arms' metrics.
Simulation = Callable[[int, float, Rng], tuple[Statistic, Statistic]]


def embolus_sizes(patients: int, rng: Rng) -> FloatArray:
    """Pixels, 0 for a third of the patients; log-normal with 95 % within a factor of 100."""
    return np.round(np.exp(rng.normal(6.0, 1.2, patients)) * (rng.random(patients) < 0.65))


def pooled_dice(patients: int, gain: float, rng: Rng) -> tuple[Statistic, Statistic]:
    """True-positive and false-positive pixels per patient."""
    size, ease = embolus_sizes(patients, rng), rng.normal(size=patients)
    arms = []
    for better in (0.0, gain):
        found = expit(0.5 + 0.9 * ease + 0.7 * rng.normal(size=patients) + better)
        too_many = np.exp(rng.normal(4.5, 1.0, patients) + 0.5 * ease)
        counts = np.zeros((patients, 2, BINS), dtype=np.uint32)
        counts[:, 1, -1] = np.round(found * size)
        counts[:, 1, 0] = size - counts[:, 1, -1]
        counts[:, 0, -1] = np.round(too_many)
        arms.append(SegTable(_names(patients), np.arange(patients), counts).statistic(0.5))
    return arms[0], arms[1]


def slice_auc(patients: int, gain: float, rng: Rng) -> tuple[Statistic, Statistic]:
    """Scores of slices; slices of a patient share an offset and a contrast."""
    share = rng.beta(1.2, 3.0, patients) * (rng.random(patients) < 0.65)
    label = rng.random((patients, SLICES)) < share[:, None]
    offset, ease = rng.normal(size=(2, patients))
    arms = []
    for better in (0.0, gain):
        own = rng.normal(size=(2, patients))
        base = 0.56 * offset + 0.42 * own[0]
        contrast = 1.3 + 0.64 * ease + 0.48 * own[1] + better
        score = base[:, None] + label * contrast[:, None] + rng.normal(size=label.shape)
        patient = np.repeat(np.arange(patients), SLICES)
        table = SliceTable(_names(patients), patient, label.ravel(), score.ravel())
        arms.append(table.statistic(0.5))
    return arms[0], arms[1]


def box_ap(patients: int, gain: float, rng: Rng) -> tuple[Statistic, Statistic]:
    """Found and false boxes with their scores, matched only at IoU 0.5."""
    boxes = np.ceil(embolus_sizes(patients, rng) / 60).astype(int).clip(max=60)
    ease = rng.normal(size=patients)
    arms = []
    for better in (0.0, gain):
        skill = 0.8 * ease + 0.6 * rng.normal(size=patients) + better
        hits = rng.binomial(boxes, expit(skill))
        false = rng.poisson(np.exp(1.5 + 0.4 * rng.normal(size=patients)))
        patient = np.concatenate([np.repeat(np.arange(patients), each) for each in (hits, false)])
        hit = np.arange(len(patient)) < hits.sum()
        score = 1.0 * hit + 0.3 * skill[patient] + rng.normal(size=len(patient))
        order = np.argsort(-score, kind="stable")
        matched = np.zeros((len(IOU_THRESHOLDS), len(patient)), dtype=bool)
        matched[0] = hit[order]
        table = DetTable(
            _names(patients),
            patient[order],
            score[order],
            matched,
            matched[0] * 0.7,
            boxes,
            np.full(patients, SLICES),
        )
        arms.append(table.statistic(0.5))
    return arms[0], arms[1]


def froc(patients: int, gain: float, rng: Rng) -> tuple[Statistic, Statistic]:
    """Marks on emboli and false marks; one embolus in seven has no mark."""
    emboli = rng.poisson(np.exp(rng.normal(1.0, 0.7, patients))) * (rng.random(patients) < 0.65)
    of_embolus, ease = np.repeat(np.arange(patients), emboli), rng.normal(size=patients)
    arms = []
    for better in (0.0, gain):
        skill = 0.8 * ease + 0.6 * rng.normal(size=patients) + better
        false = rng.poisson(np.exp(1.2 + 0.6 * rng.normal(size=patients)))
        of_false = np.repeat(np.arange(patients), false)
        best = 1.0 + 0.5 * skill[of_embolus] + rng.normal(size=len(of_embolus))
        best[rng.random(len(best)) < 1 / 7] = -np.inf
        confidence = 0.4 * rng.normal(size=patients)[of_false] + rng.normal(size=len(of_false))
        scans = np.ones(patients, dtype=np.int64)
        table = LesionTable(_names(patients), of_embolus, best, of_false, confidence, scans)
        arms.append(table.statistic((1.0,)))
    return arms[0], arms[1]


SIMULATIONS: dict[str, tuple[str, Simulation]] = {
    "pooled Dice": ("dice", pooled_dice),
    "slice AUC": ("auc", slice_auc),
    "mAP at IoU 0.5": ("mAP_50", box_ap),
    "sensitivity at 1 false positive per scan": ("sensitivity_at_1", froc),
}


def _names(patients: int) -> tuple[str, ...]:
    return tuple(f"{number:05d}" for number in range(patients))


def true_values(key: str, simulate: Simulation, rng: Rng) -> tuple[float, float]:
    """True values of an arm and of one better by :data:`GAIN`, from very many patients."""
    ones = np.ones((1, TRUE_PATIENTS))
    arms = [simulate(TRUE_PATIENTS, GAIN, rng) for _ in range(TRUE_SPLITS)]
    plain, better = np.mean([[arm(ones)[key][0] for arm in both] for both in arms], axis=0)
    return float(plain), float(better)


def count(
    key: str, simulate: Simulation, patients: int, repeats: int, seed: int, reference: int
) -> dict[str, float]:
    """One row of the table: shares among ``repeats`` splits, where the metric is defined."""
    rng = np.random.default_rng((seed, patients))
    plain, better = true_values(key, simulate, np.random.default_rng(seed))
    hits: Counter[str] = Counter()
    tried: Counter[str] = Counter()

    def note(name: str, held: bool, defined: bool = True) -> None:
        tried[name] += defined
        hits[name] += defined and bool(held)

    for turn in range(repeats):
        equal, unequal = simulate(patients, 0.0, rng), simulate(patients, GAIN, rng)
        one = estimate(equal[0], patients)[key]
        note("one arm", one.low <= plain <= one.high, not np.isnan(one.low))
        null = paired_difference(*equal, patients)[key]
        note("equal arms", null.p_value < 0.05, not np.isnan(null.low))
        gain = paired_difference(*unequal, patients)[key]
        held = gain.low <= better - plain <= gain.high
        note("unequal arms", held, not np.isnan(gain.low))
        note("gain seen", gain.p_value < 0.05, not np.isnan(gain.low))
        if turn < reference and not np.isnan([one.low, null.low, gain.low]).any():
            one = bootstrap.estimate(equal[0], patients, DRAWS, turn)[key]
            note("one arm, percentiles", one.low <= plain <= one.high)
            null = bootstrap.paired_difference(*equal, patients, DRAWS, turn)[key]
            note("equal arms, percentiles", null.p_value < 0.05)
            gain = bootstrap.paired_difference(*unequal, patients, DRAWS, turn)[key]
            note("unequal arms, percentiles", gain.low <= better - plain <= gain.high)
    return {name: hits[name] / tried[name] for name in tried if tried[name]}
