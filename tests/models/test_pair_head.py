import itertools

import numpy as np
import pytest
import torch
from exam_part_testers import exam_features

from pe_unified.models import PairHead
from pe_unified.models.heads.pairs import contrastive_loss


def test_contrastive_loss_by_hand():
    """Unit vectors at 60 and 90 degrees: distances 1 and the root of 2."""
    one = torch.tensor([[2.0, 0.0]] * 4)
    angle = torch.tensor([np.pi / 3, np.pi / 3, np.pi / 2, np.pi / 2])
    other = 5 * torch.stack([angle.cos(), angle.sin()], dim=1).float()
    same = torch.tensor([1.0, 0.0, 1.0, 0.0])
    found = contrastive_loss(one, other, same, margin=1.5)
    golden = [0.5, 0.5 * 0.5**2, 1.0, 0.5 * (1.5 - np.sqrt(2)) ** 2]
    assert found.tolist() == pytest.approx(golden, abs=1e-5)


def test_the_contrastive_gradient_of_twins_is_finite():
    one = torch.ones(2, 3, requires_grad=True)
    contrastive_loss(one, torch.ones(2, 3), torch.tensor([1.0, 0.0])).sum().backward()
    assert one.grad.isfinite().all()


class TestPairHead:
    def test_the_order_of_a_pair_makes_no_difference(self):
        head = PairHead(4, width=5)
        one, other = torch.randn(2, 7, 4)
        torch.testing.assert_close(head(one, other), head(other, one))

    def test_reads_both_their_distance_and_their_product(self):
        head = PairHead(1, width=1)
        head.layers[0].weight.data = torch.tensor([[1.0, 10.0, 100.0, 1000.0]])
        torch.nn.init.zeros_(head.layers[0].bias)
        torch.nn.init.ones_(head.layers[3].weight)
        torch.nn.init.zeros_(head.layers[3].bias)
        found = head(torch.tensor([[2.0]]), torch.tensor([[3.0]])).item()
        assert found == pytest.approx((2 + 30 + 3 + 20) / 2 + 100 + 6000)

    @pytest.mark.parametrize("max_pairs", [None, 4])
    def test_pairs_are_within_and_between_exams(self, max_pairs, monkeypatch):
        head, (features, mask) = PairHead(4, max_pairs=max_pairs), exam_features([3, 2], 4)
        drawn = []
        forward = head.forward
        monkeypatch.setattr(head, "forward", lambda *pair: drawn.append(pair) or forward(*pair))
        targets = torch.tensor([[1.0, torch.nan, 0.0], [0.0, 0.0, 1.0]])
        assert tuple(head.loss(features, mask, targets)) == head.loss_names
        ((one, other),) = drawn
        rows = features[mask & ~targets.isnan()].tolist()
        pairs = {(rows.index(a), rows.index(b)) for a, b in zip(one.tolist(), other.tolist())}
        every = set(itertools.combinations(range(4), 2))
        assert pairs == every if max_pairs is None else pairs < every
        assert len(one) == (max_pairs or 6)

    def test_weights_of_its_losses(self):
        given = (*exam_features([3, 2], 4), torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
        plain, heavy = PairHead(4), PairHead(4, contrastive_weight=2.0, bce_weight=3.0)
        heavy.load_state_dict(plain.state_dict())
        for weight, one, other in zip(
            (2, 3), plain.loss(*given).values(), heavy.loss(*given).values()
        ):
            torch.testing.assert_close(weight * one, other)
