"""Child registries of mmengine's, scope ``pe_unified``; parts are imported on first use.

Every registry that a runner uses has a child here, even if pe_unified adds nothing to it,
because mmengine warns about scopes that lack one.
"""

import importlib
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry

SCOPE = "pe_unified"
#: Imported only when a config names one of their parts, because this takes seconds.
_LATE = {
    "mmseg.": "mmseg.models",
    "PEUNetDecodeHead": "pe_unified.models.heads.mmseg",
}


class _Models(Registry):
    """Models, some of which are imported on first use."""

    def get(self, key: str) -> Any:
        for start, module in _LATE.items():
            if key.removeprefix(f"{SCOPE}.").startswith(start):
                importlib.import_module(module)
        return super().get(key)


def _child(parent: Registry, *locations: str, kind: type[Registry] = Registry) -> Registry:
    return kind(
        parent.name,
        parent=parent,
        scope=SCOPE,
        locations=[f"pe_unified.{location}" for location in locations],
    )


DATASETS = _child(root.DATASETS, "datasets")
TRANSFORMS = _child(root.TRANSFORMS, "datasets")
TASK_UTILS = _child(root.TASK_UTILS, "datasets")
DATA_SAMPLERS = _child(root.DATA_SAMPLERS, "datasets")
MODELS = _child(root.MODELS, "models", kind=_Models)
METRICS = _child(root.METRICS, "evaluation.task_metrics")
HOOKS = _child(root.HOOKS, "engine")
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS, "engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS, "engine")

EVALUATORS = _child(root.EVALUATOR)
LOG_PROCESSORS = _child(root.LOG_PROCESSORS)
LOOPS = _child(root.LOOPS)
OPTIMIZERS = _child(root.OPTIMIZERS)
PARAM_SCHEDULERS = _child(root.PARAM_SCHEDULERS)
VISBACKENDS = _child(root.VISBACKENDS, "engine")
VISUALIZERS = _child(root.VISUALIZERS)
WEIGHT_INITIALIZERS = _child(root.WEIGHT_INITIALIZERS)
