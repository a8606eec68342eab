"""One run of training or evaluation: configs, hooks, precision, checkpoints."""

from pe_unified.engine.config import ConfigError, apply_knobs, load_config
from pe_unified.engine.exam_flow_hook import ExamFlowHook
from pe_unified.engine.hooks import MeanLossHook, NaNGuardHook, WholeCheckpointHook
from pe_unified.engine.layer_decay import LayerDecayConstructor
from pe_unified.engine.logs import LocalVisBackend
from pe_unified.engine.optim_wrapper import PrecisionOptimWrapper
from pe_unified.engine.progress_hook import ProgressHook
from pe_unified.engine.runner import PERunner
from pe_unified.engine.swa_hook import SWAHook

__all__ = [
    "ConfigError",
    "ExamFlowHook",
    "LayerDecayConstructor",
    "LocalVisBackend",
    "MeanLossHook",
    "NaNGuardHook",
    "PERunner",
    "PrecisionOptimWrapper",
    "ProgressHook",
    "SWAHook",
    "WholeCheckpointHook",
    "apply_knobs",
    "load_config",
]
