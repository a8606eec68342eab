"""Running training and evaluation: configs, hooks, precision, checkpoints, steps."""

from pe_unified.engine.config import ConfigError, apply_knobs, load_config
from pe_unified.engine.hooks import MeanLossHook, NaNGuardHook, ProgressHook, WholeCheckpointHook
from pe_unified.engine.layer_decay import LayerDecayConstructor
from pe_unified.engine.precision import PrecisionOptimWrapper
from pe_unified.engine.runner import PERunner
from pe_unified.engine.steps import load_recipe, run_recipe

__all__ = [
    "ConfigError",
    "LayerDecayConstructor",
    "MeanLossHook",
    "NaNGuardHook",
    "PERunner",
    "PrecisionOptimWrapper",
    "ProgressHook",
    "WholeCheckpointHook",
    "apply_knobs",
    "load_config",
    "load_recipe",
    "run_recipe",
]
