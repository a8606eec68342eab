from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.converters.contract.splits import SPLITS, assign_folds, assign_splits, shared_groups

patients = st.dictionaries(
    st.text("abcdef0123456789", min_size=1, max_size=6),
    st.sampled_from([True, True, False, None]),
    min_size=1,
    max_size=60,
)
shares = st.tuples(*[st.sampled_from([0.0, 0.1, 0.15, 0.3, 0.7])] * 3).filter(any)


@settings(max_examples=150)
@given(patients, shares, st.integers(0, 5))
def test_every_patient_has_one_split_near_its_share(has_pe, fractions, seed):
    splits = assign_splits(has_pe, fractions, seed)
    assert set(splits) == set(has_pe)
    counts = Counter(splits.values())
    total = sum(fractions)
    wanted = [share for share in fractions if share]
    for name, share in zip(SPLITS, fractions, strict=True):
        if not share:
            assert counts[name] == 0
        else:
            assert abs(counts[name] - len(has_pe) * share / total) <= 2
            if len(has_pe) >= len(wanted):
                assert counts[name] > 0
            if sum(value is not None for value in has_pe.values()) >= len(wanted):
                assert any(
                    has_pe[patient] is not None for patient in splits if splits[patient] == name
                )


@settings(max_examples=40)
@given(st.integers(20, 80), st.floats(0.2, 0.8), st.integers(0, 3))
def test_stratified(count, rate, seed):
    has_pe = {f"p{k}": k < count * rate for k in range(count)}
    splits = assign_splits(has_pe, (0.6, 0.2, 0.2), seed)
    positives = sum(has_pe.values())
    for name, share in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
        members = [patient for patient in splits if splits[patient] == name]
        assert abs(sum(has_pe[patient] for patient in members) - share * positives) <= 1.5


@settings(max_examples=80)
@given(patients, st.integers(1, 12), st.integers(0, 3))
def test_groups_are_never_divided(has_pe, count, seed):
    groups = {patient: f"g{sum(patient.encode()) % count}" for patient in list(has_pe)[::2]}
    splits = assign_splits(has_pe, (0.5, 0.25, 0.25), seed, groups)
    for group in set(groups.values()):
        assert len({splits[patient] for patient in groups if groups[patient] == group}) == 1


@settings(max_examples=80)
@given(patients, st.sampled_from(SPLITS), st.integers(2, 9), st.integers(0, 3))
def test_those_with_a_place_keep_it_and_the_others_even_out(has_pe, split, every, seed):
    fixed = dict.fromkeys(list(has_pe)[::every], split)
    splits = assign_splits(has_pe, (0.4, 0.3, 0.3), seed, fixed=fixed)
    assert set(splits) == set(has_pe)
    assert all(splits[patient] == split for patient in fixed)
    counts = Counter(splits.values())
    if len(has_pe) - len(fixed) >= 3:
        assert all(counts[name] for name in SPLITS)
    rest = [name for name in SPLITS if name != split]
    # What the fixed ones leave is shared evenly by the two other splits.
    assert abs(counts[rest[0]] - counts[rest[1]]) <= 0.2 * len(has_pe) + 2


def test_a_group_with_a_place_keeps_it_whole():
    has_pe = {f"p{k}": k % 2 == 0 for k in range(12)}
    groups = {f"p{k}": "g" for k in range(4)}
    for split in SPLITS:
        splits = assign_splits(has_pe, groups=groups, fixed={"g": split})
        assert {splits[f"p{k}"] for k in range(4)} == {split}
        assert set(splits.values()) == set(SPLITS)


def test_groups_that_patients_share():
    groups = {"a": "g", "b": "c", "x": "y"}
    # One after whom others name their group belongs to it; one that is unknown to none.
    assert shared_groups("abcd", groups) == {"a": "g", "b": "c", "c": "c"}


def test_fumpe_divides_well_at_every_seed():
    has_pe = {f"PAT{k:03d}": k not in (24, 32) for k in range(1, 36)}
    for seed in range(20):
        counts = Counter(assign_splits(has_pe, seed=seed).values())
        assert 24 <= counts["train"] <= 25 and min(counts["val"], counts["test"]) >= 5


def test_order_of_patients_does_not_matter_and_the_seed_does():
    has_pe = {f"p{k}": k % 3 == 0 for k in range(30)}
    backwards = dict(reversed(has_pe.items()))
    assert assign_splits(has_pe, seed=1) == assign_splits(backwards, seed=1)
    assert assign_splits(has_pe, seed=1) != assign_splits(has_pe, seed=2)


def test_three_positive_patients_fill_three_splits():
    assert sorted(assign_splits(dict.fromkeys("abc", True)).values()) == ["test", "train", "val"]
    # With two positive ones and one negative, training keeps a positive one.
    splits = assign_splits({"a": True, "b": True, "c": False})
    assert sorted(splits.values()) == ["test", "train", "val"]


@settings(max_examples=60)
@given(patients.filter(lambda has_pe: len(has_pe) >= 5), st.integers(2, 5), st.integers(0, 3))
def test_folds_are_even(has_pe, folds, seed):
    parts = assign_folds(has_pe, folds, seed)
    counts = Counter(parts.values())
    assert set(counts) == set(range(folds))
    assert max(counts.values()) - min(counts.values()) <= 2


def test_impossible_requests():
    with pytest.raises(ValueError, match="5 folds need as many"):
        assign_folds({"a": True, "b": True}, 5)
    with pytest.raises(ValueError, match="at least 2"):
        assign_folds({"a": True, "b": True}, 1)
    with pytest.raises(ValueError, match="three fractions"):
        assign_splits({"a": True}, (0, 0, 0))
    with pytest.raises(ValueError, match="three fractions"):
        assign_splits({"a": True}, (1, -1, 1))
