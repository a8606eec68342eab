"""Which parts the config of an untrusted checkpoint may build."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mmdet.registry
import mmengine.registry

from pe_unified.errors import CheckpointError
from pe_unified.registry import (
    DATA_SAMPLERS,
    DATASETS,
    METRICS,
    MODELS,
    TASK_UTILS,
    TRANSFORMS,
)

_SCOPED = re.compile(r"^((pe_unified|mmengine|mmdet)\.)?\w+$")
#: Operators of mmcv that mmdet's parts call by name.
_OPERATORS = ("RoIAlign", "nms")
_OF_MMDET = (mmdet.registry.MODELS, mmdet.registry.TASK_UTILS)
#: pe_unified's own parts, and the layers and samplers of mmengine.
_KNOWN = (
    *(MODELS, TRANSFORMS, TASK_UTILS, DATASETS, DATA_SAMPLERS, METRICS),
    *(mmengine.registry.MODELS, mmengine.registry.DATA_SAMPLERS),
)
#: Modules of mmdet that contain only layers; some parts of other modules load files.
_LAYERS_OF_MMDET = tuple(
    f"mmdet.models.{room}"
    for room in (
        *("necks.", "dense_heads.", "roi_heads.", "losses.", "task_modules."),
        "backbones.cspnext",
    )
)


def for_answers(path: str | Path, model: dict, *others: Any, trust: bool) -> None:
    """Make the config of a stored model safe to build for inference.

    Losses are removed, because any module may be one, and inference needs none.

    Args:
        path: path of the checkpoint, for the message.
        model: its config; changed in place.
        others: configs that are built with it: transforms, the steps of an exam.
        trust: allow any part.

    Raises:
        CheckpointError: names an unknown part.
    """
    for part in model.values():
        if isinstance(part, dict):
            part.pop("losses", None)
    if not trust:
        for each in (model, *others):
            _require_registered(path, each)


def for_training(path: str | Path, *parts: Any, trust: bool) -> None:
    """Reject unknown parts in the config of a stored model that is built for training.

    Losses are kept, so a loss of another package is rejected.

    Args:
        path: path of the checkpoint, for the message.
        parts: configs of the model, its data loaders and metrics.
        trust: allow any part.

    Raises:
        CheckpointError: names an unknown part.
    """
    if not trust:
        for each in parts:
            _require_registered(path, each)


def _require_registered(path: str | Path, config: Any) -> None:
    """Reject types that are neither from this package nor plain layers of mmengine or mmdet.

    mmengine would import whatever a name points to, and parts of other packages may load files.

    Raises:
        CheckpointError: names the part.
    """
    for name in _types(config):
        if not isinstance(name, str) or not _SCOPED.match(name) or not _registered(name):
            raise CheckpointError(
                f"{path}: refused, because its config builds '{name}', which is not a registered "
                "part. If you made this file or trust who did, pass --trust-checkpoint"
            )


def _types(config: Any) -> Iterator[Any]:
    if isinstance(config, Mapping):
        if "type" in config:
            yield config["type"]
        for value in config.values():
            yield from _types(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _types(value)


def _registered(name: str) -> bool:
    """Whether one of the registries has the name; imports nothing."""
    scope, _, bare = name.rpartition(".")
    if scope == "mmdet":
        found = (registry.module_dict.get(bare) for registry in _OF_MMDET)
        return any(part and part.__module__.startswith(_LAYERS_OF_MMDET) for part in found)
    return bare in _OPERATORS or any(bare in registry.module_dict for registry in _KNOWN)
