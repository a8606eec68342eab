import copy

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from pe_unified.inference.fusing import fuse_batch_norms
from pe_unified.registry import MODELS
from pe_unified.testing import tiny_model_config


def built(config):
    with DefaultScope.overwrite_default_scope("pe_unified"):
        return MODELS.build(config)


def learned(module, inputs):
    """With statistics that are not the initial ones."""
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(3):
            module.train()(inputs)
    return module.eval()


def norms(module):
    return sum(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in module.modules())


@pytest.mark.parametrize(
    ("config", "left"),
    [
        (tiny_model_config(("cls", "seg", "det"))["backbone"], False),
        (dict(type="PEResNet", depth=50, base_channels=8), False),
        # Its batch norms activate.
        (dict(type="PETimm", model_name="test_efficientnet", pretrained=None), True),
        (dict(type="TimmEncoder", model_name="test_efficientnet"), True),
        (dict(type="R3D18Encoder", in_channels=3, base_channels=8), True),
    ],
)
def test_answers_stay_the_same(config, left):
    shape = (2, 3, 4, 32, 32) if config["type"] == "R3D18Encoder" else (2, 3, 64, 64)
    inputs = torch.randn(shape)
    module = learned(built(config), inputs)
    fused = fuse_batch_norms(copy.deepcopy(module))
    assert norms(module) > norms(fused) or left
    assert bool(norms(fused)) == left
    with torch.no_grad():
        for one, other in zip(module(inputs), fused(inputs)):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_only_neighbours_are_fused():
    apart = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)).eval()
    assert norms(fuse_batch_norms(apart)) == 1
    first = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)).eval()
    assert norms(fuse_batch_norms(first)) == 1
