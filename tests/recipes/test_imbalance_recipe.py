"""Every change of the recipe against imbalance trains, validates and is tested."""

import math

import pytest
from tiny_run import small_settings

from pe_unified.engine import PERunner, load_config
from pe_unified.engine.evaluate import evaluate_checkpoint
from pe_unified.recipes import load_recipe

#: What a painted set of a few slices lacks: emboli of three sizes.
NOT_IN_TINY_SETS = {"by_area"}


@pytest.mark.slow
def test_every_step_trains(repository, tiny_dataset, tmp_path):
    steps = load_recipe(repository / "configs/ablations/imbalance.py").steps
    for step in steps:
        if step.name in NOT_IN_TINY_SETS:
            continue
        settings = [*step.settings, small_settings("seg")]
        cfg = load_config(step.config, {"max_iters": 8}, str(tiny_dataset), settings)
        cfg.work_dir = str(tmp_path / step.name)
        PERunner.from_cfg(cfg).train()
        found = evaluate_checkpoint(cfg, tmp_path / step.name / "iter_8.pth").metrics
        assert not math.isnan(found["seg/dice"]), step.name
