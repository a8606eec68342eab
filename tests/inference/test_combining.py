"""Answers joined by hand, and what must hold whatever they are."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.inference.combining import Ballot, SliceAnswer, combine, fuse_boxes, pixel_votes


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def test_the_mean_by_hand():
    one = SliceAnswer(0.9, torch.tensor([[0.2, 0.8]]))
    two = SliceAnswer(0.3, torch.tensor([[0.6, 0.2]]))
    whole = combine([one, two], [Ballot(1.0), Ballot(2.0)], "mean")
    assert whole.probability == pytest.approx((0.9 + 2 * 0.3) / 3)
    np.testing.assert_allclose(whole.pixels, [[1.4 / 3, 1.2 / 3]], rtol=1e-6)
    assert whole.boxes is None


def test_votes_are_by_the_own_thresholds():
    one = SliceAnswer(0.3, torch.tensor([[0.2, 0.8]]), boxes([0, 0, 9, 9]), np.array([0.4]))
    two = SliceAnswer(0.3, torch.tensor([[0.2, 0.2]]), boxes([0, 0, 9, 9]), np.array([0.4]))
    ballots = [Ballot(3.0, slice=0.2, pixel=0.2, box=0.4), Ballot(1.0, box=0.5)]
    whole = combine([one, two], ballots, "vote")
    assert whole.probability == 0.75
    np.testing.assert_array_equal(whole.pixels, [[0.75, 0.75]])
    np.testing.assert_array_equal(whole.scores, [0.75])


@pytest.mark.parametrize("weights", [(2, 4, 1), (1,) * 10])
def test_a_vote_of_all_is_a_probability(weights):
    """In float32 the shares of these weights add up to more than 1."""
    answers = [SliceAnswer(None, torch.ones(1, 2)) for _ in weights]
    whole = combine(answers, [Ballot(weight, pixel=0.5) for weight in weights], "vote")
    assert whole.pixels.tolist() == [[1.0, 1.0]]


def test_who_does_not_answer_does_not_count():
    one = SliceAnswer(None, torch.tensor([[0.2]]))
    two = SliceAnswer(0.3, None, boxes([0, 0, 4, 4]), np.array([0.6], np.float32))
    whole = combine([one, two], [Ballot(1.0), Ballot(5.0)], "mean")
    assert whole.probability == 0.3 and float(whole.pixels[0, 0]) == pytest.approx(0.2)
    assert whole.scores.tolist() == pytest.approx([0.6])
    assert whole.box_votes.tolist() == [[False], [True]]


def test_weighted_boxes_fusion_by_hand():
    """Two networks see one embolus, a third does not; and one box is alone."""
    found = boxes([0, 0, 10, 10], [2, 0, 12, 10], [40, 40, 44, 44])
    scores, network = np.array([0.8, 0.4, 0.6]), np.array([0, 1, 1])
    fused, said, by = fuse_boxes(found, scores, network, [1.0, 1.0, 1.0])
    np.testing.assert_allclose(fused, [[2 * 0.4 / 1.2, 0, 10 + 2 * 0.4 / 1.2, 10], found[2]])
    np.testing.assert_allclose(said, [1.2 / 3, 0.6 / 3])
    np.testing.assert_array_equal(by, [[0.8, -np.inf], [0.4, 0.6], [-np.inf, -np.inf]])
    heavy, weighed, _ = fuse_boxes(found, scores, network, [3.0, 1.0, 0.5])
    np.testing.assert_allclose(heavy[0], np.average(found[:2], axis=0, weights=[2.4, 0.4]))
    np.testing.assert_allclose(weighed, [2.8 / 4.5, 0.6 / 4.5])


def test_boxes_that_overlap_too_little_stay_apart():
    apart = boxes([0, 0, 10, 10], [5, 0, 15, 10])  # IoU 1/3
    fused, _, _ = fuse_boxes(apart, np.array([0.5, 0.4]), np.array([0, 1]), [1.0, 1.0])
    np.testing.assert_array_equal(fused, apart)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 12), networks=st.integers(1, 3))
def test_what_always_holds_of_fused_boxes(seed, count, networks):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 20, (count, 2))
    found = np.concatenate([corner, corner + rng.uniform(2, 10, (count, 2))], 1).astype(np.float32)
    scores, network = rng.random(count), rng.integers(0, networks, count)
    weights = rng.uniform(0.5, 2, networks)
    fused, said, by = fuse_boxes(found, scores, network, weights)
    assert (np.diff(said) <= 0).all() and (said <= 1 + 1e-6).all()
    # Every box is in exactly one fused one.
    assert np.isfinite(by).sum() == count
    np.testing.assert_allclose(said, np.where(np.isinf(by), 0, by).T @ weights / weights.sum())
    order = rng.permutation(count)
    again = fuse_boxes(found[order], scores[order], network[order], weights)
    np.testing.assert_allclose(again[0], fused, rtol=1e-5)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), weight=st.floats(0.1, 10))
def test_one_network_stays_as_it_is(seed, weight):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 20, (8, 2))
    found = np.concatenate([corner, corner + 8], 1).astype(np.float32)
    scores = np.sort(rng.random(8).astype(np.float32))[::-1]
    pixels = torch.from_numpy(rng.random((5, 6)).astype(np.float32))
    whole = combine([SliceAnswer(0.3, pixels, found, scores)], [Ballot(weight)], "mean")
    assert whole.probability == 0.3 and torch.equal(whole.pixels, pixels)
    np.testing.assert_array_equal(whole.boxes, found)
    np.testing.assert_allclose(whole.scores, scores, rtol=1e-6)


def test_votes_of_pixels():
    answers = [SliceAnswer(0.1, torch.tensor([[0.5, 0.9]])), SliceAnswer(0.1)]
    votes = pixel_votes(answers, [Ballot(pixel=0.5), Ballot()], torch.tensor([0, 1]))
    assert votes.tolist() == [[True, True], [False, False]]
