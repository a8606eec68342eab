import math

import pytest
import torch
from part_testers import LEVELS, levels_for

from pe_unified.models.evidence_map import EvidenceMap, pool_evidence


def test_the_map_has_the_cells_of_the_finest_level():
    evidence = EvidenceMap(LEVELS["in_channels"], 8).eval()
    with torch.no_grad():
        assert evidence(levels_for((97, 131))).shape == (2, 1, 25, 33)


def test_an_untrained_map_holds_emboli_for_rare():
    torch.manual_seed(0)
    evidence = EvidenceMap(LEVELS["in_channels"], 8).eval()
    with torch.no_grad():
        assert evidence(levels_for((64, 64))).sigmoid().mean() < 0.05


def test_pooling_by_hand():
    logits = torch.tensor([[[[0.0, math.log(3.0)], [0.0, 0.0]]]])
    strongest, mean = pool_evidence(logits)[0].tolist()
    assert strongest == pytest.approx(math.log(3))
    assert mean == pytest.approx(math.log((1 + 3 + 1 + 1) / 4))


def test_every_cell_of_the_map_has_a_gradient():
    logits = torch.zeros(1, 1, 4, 5, requires_grad=True)
    pool_evidence(logits)[:, 1].sum().backward()
    assert (logits.grad > 0).all()
