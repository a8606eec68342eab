import itertools

import numpy as np
import pytest

from pe_unified.datasets import (
    ClassBalancedSampler,
    DatasetError,
    PEOversamplingSampler,
    SliceSampler,
    samplers,
)


class Labels:
    ann_file = "train.json"

    def __init__(self, positives, others):
        self.values = np.array([1.0] * positives + [0.0] * others)

    def __len__(self):
        return len(self.values)

    def labels(self):
        return self.values


def take(sampler, number):
    return list(itertools.islice(iter(sampler), number))


def test_plain_rounds_visit_every_slice_once():
    draws = take(SliceSampler(Labels(3, 7)), 30)
    for turn in range(3):
        assert sorted(draw.index for draw in draws[turn * 10 : turn * 10 + 10]) == list(range(10))
    assert len({draw.seed for draw in draws}) == 30


def test_balanced_draws_half_positives():
    draws = take(ClassBalancedSampler(Labels(5, 95)), 2000)
    positives = [draw.index for draw in draws if draw.index < 5]
    assert 0.45 < len(positives) / 2000 < 0.55
    counts = np.bincount(positives)
    assert counts.max() - counts.min() <= 1


def test_oversampling_multiplies_the_odds():
    draws = take(PEOversamplingSampler(Labels(20, 80), factor=4), 4000)
    assert sum(draw.index < 20 for draw in draws) / 4000 == pytest.approx(0.5, abs=0.03)


def test_skip_continues_the_same_stream():
    whole = take(ClassBalancedSampler(Labels(5, 9), seed=3), 40)
    resumed = ClassBalancedSampler(Labels(5, 9), seed=3)
    resumed.skip(25)
    assert take(resumed, 15) == whole[25:]


def test_a_rank_that_goes_on_draws_what_it_would_have_drawn(monkeypatch):
    for rank in range(2):
        monkeypatch.setattr(samplers, "get_dist_info", lambda rank=rank: (rank, 2))
        whole = take(ClassBalancedSampler(Labels(5, 9), seed=3), 20)
        resumed = ClassBalancedSampler(Labels(5, 9), seed=3)
        resumed.skip(7)
        assert take(resumed, 13) == whole[7:]


def test_every_round_has_an_order_of_its_own():
    draws = [draw.index for draw in take(SliceSampler(Labels(6, 14)), 60)]
    rounds = {tuple(draws[turn * 20 : turn * 20 + 20]) for turn in range(3)}
    assert len(rounds) == 3


def test_two_ranks_share_what_one_sees(monkeypatch):
    alone = take(ClassBalancedSampler(Labels(5, 9)), 24)
    ranks = []
    for rank in range(2):
        monkeypatch.setattr(samplers, "get_dist_info", lambda rank=rank: (rank, 2))
        ranks.append(take(ClassBalancedSampler(Labels(5, 9)), 12))
    for start in range(0, 24, 8):
        together = ranks[0][start // 2 : start // 2 + 4] + ranks[1][start // 2 : start // 2 + 4]
        assert sorted(together) == sorted(alone[start : start + 8])


def test_seeds_differ():
    assert take(SliceSampler(Labels(5, 9), seed=0), 14) != take(
        SliceSampler(Labels(5, 9), seed=1), 14
    )


def test_balance_without_positives_is_an_error():
    with pytest.raises(DatasetError, match="positive"):
        ClassBalancedSampler(Labels(0, 9))


def test_oversampling_never_thins():
    with pytest.raises(ValueError, match="factor"):
        PEOversamplingSampler(Labels(2, 9), factor=0.5)


class Areas(Labels):
    """Positives with target ratios of 0.001, 0.002, ...; of some, masks are unknown."""

    def __init__(self, positives, others, unknown=0):
        super().__init__(positives, others)
        ratios = np.arange(1, positives + 1) / 1000
        ratios[positives - unknown :] = np.nan
        self.ratios = np.concatenate([ratios, np.zeros(others)])

    def target_ratios(self):
        return self.ratios


BY_AREA = dict(positive_fraction=0.5, ratio_edges=(0.0025, 0.0105), ratio_shares=(3, 1, 1))


def test_small_emboli_come_as_often_as_asked_for():
    """Of 20 positives 2 are small, 8 middling, 10 large."""
    draws = [draw.index for draw in take(SliceSampler(Areas(20, 80), **BY_AREA), 20000)]
    counts = np.bincount(draws, minlength=100)
    shares = [counts[part].sum() / 20000 for part in np.split(np.arange(100), [2, 10, 20])]
    assert shares == pytest.approx([0.3, 0.1, 0.1, 0.5], abs=0.012)
    for part in np.split(counts, [2, 10, 20]):
        assert part.max() - part.min() <= 1, "each class goes through rounds of its own"


def test_a_ratio_on_an_edge_is_of_the_class_above():
    sampler = SliceSampler(Areas(4, 4), ratio_edges=(0.002,))
    assert [pool.tolist() for pool in sampler.pools[:2]] == [[0], [1, 2, 3]]


def test_positives_without_masks_keep_their_share_of_the_positives():
    """A quarter of the positives is unknown; classes part the rest evenly."""
    dataset = Areas(20, 20, unknown=5)
    draws = [
        draw.index
        for draw in take(SliceSampler(dataset, positive_fraction=0.8, ratio_edges=(0.0105,)), 20000)
    ]
    counts = np.bincount(draws, minlength=40)
    shares = [counts[part].sum() / 20000 for part in np.split(np.arange(40), [10, 15, 20])]
    assert shares == pytest.approx([0.3, 0.3, 0.2, 0.2], abs=0.012)


def test_without_a_fraction_positives_are_as_frequent_as_they_are():
    draws = take(SliceSampler(Areas(10, 90), ratio_edges=(0.0015,), ratio_shares=(1, 0)), 20000)
    counts = np.bincount([draw.index for draw in draws], minlength=100)
    assert counts[0] / 20000 == pytest.approx(0.1, abs=0.01) and counts[1:10].sum() == 0


def test_draws_by_area_are_resumed():
    whole = take(SliceSampler(Areas(20, 80), seed=3, **BY_AREA), 60)
    resumed = SliceSampler(Areas(20, 80), seed=3, **BY_AREA)
    resumed.skip(25)
    assert take(resumed, 35) == whole[25:]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (dict(ratio_edges=(0.5,)), DatasetError, "has 20, 0, 0, 80"),
        (dict(ratio_edges=(0.01, 0.001)), ValueError, "must increase"),
        (dict(ratio_edges=(0.01,), ratio_shares=(1, 1, 1)), ValueError, "2 shares"),
        (dict(ratio_edges=(0.01,), ratio_shares=(1, -1)), ValueError, "none below 0"),
    ],
)
def test_classes_that_there_are_not_are_refused(options, error, said):
    with pytest.raises(error, match=said):
        SliceSampler(Areas(20, 80), **options)
