"""Running training and evaluation: configs, hooks, precision, checkpoints, steps."""

from pe_unified.engine.config import ConfigError, apply_knobs, load_config
from pe_unified.engine.hooks import NaNGuardHook, ProgressHook, WholeCheckpointHook
from pe_unified.engine.precision import PrecisionOptimWrapper
from pe_unified.engine.runner import PERunner

__all__ = [
    "ConfigError",
    "NaNGuardHook",
    "PERunner",
    "PrecisionOptimWrapper",
    "ProgressHook",
    "WholeCheckpointHook",
    "apply_knobs",
    "load_config",
]
