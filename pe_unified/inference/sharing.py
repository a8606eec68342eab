"""Whether an exam model and a slice model compute the same backbone features for a slice."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from pe_unified.datasets.exam_steps import SliceSteps
from pe_unified.datasets.feature_store import digest_of_tensors
from pe_unified.image_network import image_network
from pe_unified.models.backbones.encoders import BackboneEncoder
from pe_unified.models.exam_model import PEExam
from pe_unified.models.slice_model import PEUnified

#: Transforms that do not change the image.
_PACKING = ("PackPEInputs", "PackExamInputs")
#: Settings of a backbone that only affect training.
_OF_TRAINING = ("pretrained", "frozen_stages", "init_cfg")


def key_of_levels(
    model: nn.Module,
    config: Mapping[str, Any],
    pipeline: Sequence[Mapping[str, Any]],
    neighbours: int | None,
) -> str | None:
    """A key that changes with anything that affects a backbone's levels, except rounding.

    That is the backbone and its weights, the transforms, the neighbours, the normalisation.

    Args:
        model: a slice model or exam model with its weights.
        config: config of the model.
        pipeline: configs of the transforms, from Hounsfield units to the packed input.
        neighbours: slices on each side that are stacked with a slice; None if steps are not slices.

    Returns:
        None if there is no backbone that reads single slices.
    """
    backbone: Any
    if isinstance(model, PEUnified):
        backbone = model.backbone
    elif isinstance(model, PEExam) and isinstance(model.encoder, BackboneEncoder):
        backbone = model.encoder.backbone
    else:
        return None
    seen = [step for step in pipeline if step["type"] not in _PACKING]
    if neighbours is None or _is_padded(model, seen):
        return None
    preprocessor: Any = model.data_preprocessor
    what = {
        "backbone": {k: v for k, v in image_network(config)[0].items() if k not in _OF_TRAINING},
        "weights": digest_of_tensors(backbone.state_dict()),
        "pipeline": seen,
        "neighbours": neighbours,
        "mean": preprocessor.mean.flatten().tolist(),
        "std": preprocessor.std.flatten().tolist(),
    }
    text = json.dumps(what, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def neighbours_of(steps: Any) -> int | None:
    """Slices on each side, for steps that are single slices; else None."""
    return steps.neighbours if isinstance(steps, SliceSteps) else None


def _is_padded(model: nn.Module, pipeline: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a slice model pads its inputs; exam models do not."""
    if not isinstance(model, PEUnified):
        return False
    sizes = [step["size"] for step in pipeline if step["type"] == "ResizeSlice"]
    sides = [side for size in sizes for side in ([size] if isinstance(size, int) else size)]
    preprocessor: Any = model.data_preprocessor
    return not sides or any(preprocessor.padded(side) != side for side in sides)
