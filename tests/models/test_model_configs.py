"""The model configs build under the scope of pe_unified, and say what they claim."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from pe_unified.registry import MODELS


@pytest.fixture(scope="module")
def model_config(repository: Path):
    def load(name: str) -> Config:
        return Config.fromfile(repository / "configs" / "_base_" / "models" / f"{name}.py").model

    return load


@pytest.mark.parametrize("name, kind", [("r50", "PEResNet"), ("swin", "PESwin")])
def test_builds_and_runs(model_config, name, kind):
    with DefaultScope.overwrite_default_scope("pe_unified"):
        model = MODELS.build(model_config(name)).eval()
    assert type(model.backbone).__name__ == kind
    assert model.tasks == ("cls", "seg", "det")
    assert model.memory_format is torch.channels_last
    with torch.no_grad():
        (sample,) = model(torch.zeros(1, 3, 64, 64), mode="predict")
    assert sample.seg_prob.data.shape == (1, 64, 64)


def test_heads_are_dropped_by_none(model_config):
    config = model_config("r50")
    config.update(seg_head=None, det_head=None)
    assert MODELS.build(config).tasks == ("cls",)
