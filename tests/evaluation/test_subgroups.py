import numpy as np
import pytest

from pe_unified.evaluation.intervals import estimate
from pe_unified.evaluation.segmentation import SegTable
from pe_unified.evaluation.slices import SliceTable
from pe_unified.evaluation.subgroups import of_patients, of_slices

RNG = np.random.default_rng(5)
PATIENTS = [f"p{number % 7}" for number in range(140)]
LABELS = RNG.random(140) < 0.4
SCORES = np.clip(0.3 * LABELS + RNG.normal(0.4, 0.2, 140), 0, 1)
TABLE = SliceTable.build(PATIENTS, LABELS, SCORES)


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        found = [
            getattr(each[name], end) for each in (one, other) for end in ("value", "low", "high")
        ]
        assert found[:3] == pytest.approx(found[3:], nan_ok=True), name


def test_patients_are_measured_as_if_there_were_no_others():
    """A table of their slices alone gives the same, intervals included."""
    chosen = {"p1", "p3", "p4", "p6", "somebody else"}
    rows = np.array([patient in chosen for patient in PATIENTS])
    names = [patient for patient in PATIENTS if patient in chosen]
    alone = SliceTable.build(names, LABELS[rows], SCORES[rows])
    same(of_patients(TABLE, TABLE.statistic(0.5), chosen), estimate(alone.statistic(0.5), 4))


def test_patients_of_one_group_are_left_out_together():
    groups = ("a", "a", "b", "b", "c", "c", "d")
    table = SliceTable(TABLE.patients, TABLE.patient, TABLE.label, TABLE.score, groups=groups)
    found = of_patients(table, table.statistic(0.5), {"p0", "p1", "p4", "p6"})
    rows = np.isin(PATIENTS, ["p0", "p1", "p4", "p6"])
    alone = SliceTable.build([p for p in np.array(PATIENTS)[rows]], LABELS[rows], SCORES[rows])
    same(found, estimate(alone.statistic(0.5), np.array([0, 0, 1, 2])))


def test_nobody_left():
    assert of_patients(TABLE, TABLE.statistic(0.5), {"somebody else"}) is None


def test_slices_are_measured_as_if_there_were_no_others():
    kept = RNG.random(140) < 0.5
    kept[np.array(PATIENTS) == "p2"] = False
    part = of_slices(TABLE, kept)
    alone = SliceTable.build([p for p in np.array(PATIENTS)[kept]], LABELS[kept], SCORES[kept])
    assert part.patients == alone.patients and "p2" not in part.patients
    np.testing.assert_array_equal(part.patient, alone.patient)
    np.testing.assert_array_equal(part.score, alone.score)
    counts = RNG.integers(0, 9, (140, 2, 256)).astype(np.uint32)
    masks = of_slices(SegTable.build(PATIENTS, list(counts)), kept)
    assert masks.counts.sum() == counts[kept].sum()
