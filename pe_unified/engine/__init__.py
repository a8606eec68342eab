"""Running training and evaluation: configs, hooks, precision, checkpoints, steps."""

from pe_unified.engine.config import ConfigError, apply_knobs, load_config
from pe_unified.engine.hooks import MeanLossHook, NaNGuardHook, WholeCheckpointHook
from pe_unified.engine.layer_decay import LayerDecayConstructor
from pe_unified.engine.logs import LocalVisBackend
from pe_unified.engine.precision import PrecisionOptimWrapper
from pe_unified.engine.progress import ProgressHook
from pe_unified.engine.recipe import load_recipe
from pe_unified.engine.runner import PERunner
from pe_unified.engine.steps import run_recipe

__all__ = [
    "ConfigError",
    "LayerDecayConstructor",
    "LocalVisBackend",
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
