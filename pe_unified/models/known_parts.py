"""Which parts the config of a stranger's checkpoint may build."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mmdet.registry
import mmengine.registry

from pe_unified.models.weights import CheckpointError
from pe_unified.registry import MODELS, TRANSFORMS

_SCOPED = re.compile(r"^((pe_unified|mmengine|mmdet)\.)?\w+$")
#: mmcv's, which mmdet's parts call by name.
_OPERATORS = ("RoIAlign", "nms")
_OF_MMDET = (mmdet.registry.MODELS, mmdet.registry.TASK_UTILS)
#: Rooms of mmdet whose parts hold layers only; others hold some that load files.
_LAYERS_OF_MMDET = tuple(
    f"mmdet.models.{room}."
    for room in ("necks", "dense_heads", "roi_heads", "losses", "task_modules")
)
#: Losses of other packages: modules without files.
_LOSSES = re.compile(r"^(torch\.nn|monai\.losses|segmentation_models_pytorch\.losses)\.\w+Loss$")


def require_registered(path: Path, config: Any) -> None:
    """Refuse types that are neither this package's nor plain layers of mmengine's or mmdet's.

    mmengine would import whatever a name points to, and parts of other packages may load files.

    Raises:
        CheckpointError: names the part.
    """
    for name in _types(config):
        if not isinstance(name, str) or not (
            _LOSSES.match(name) or (_SCOPED.match(name) and _registered(name))
        ):
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
    """Whether one of the registries holds the name; nothing is imported for it."""
    scope, _, bare = name.rpartition(".")
    if scope == "mmdet":
        found = (registry.module_dict.get(bare) for registry in _OF_MMDET)
        return any(part and part.__module__.startswith(_LAYERS_OF_MMDET) for part in found)
    registries = (MODELS, TRANSFORMS, mmengine.registry.MODELS)
    return bare in _OPERATORS or any(bare in registry.module_dict for registry in registries)
