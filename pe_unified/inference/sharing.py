"""Whether an exam model's backbone sees in a slice what a slice model's has seen in it already."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from pe_unified.datasets.exam_steps import SliceSteps
from pe_unified.datasets.feature_store import digest_of_tensors
from pe_unified.models.backbones.encoders import BackboneEncoder
from pe_unified.models.exam_model import PEExam
from pe_unified.models.image_network import image_network
from pe_unified.models.slice_model import PEUnified

#: Of a pipeline, what gives the picture its form, and not the picture.
_PACKING = ("PackPEInputs", "PackExamInputs")
#: Of a backbone's config, what bears on training alone.
_OF_TRAINING = ("pretrained", "frozen_stages", "init_cfg")


def key_of_levels(
    model: nn.Module,
    config: Mapping[str, Any],
    pipeline: Sequence[Mapping[str, Any]],
    neighbours: int | None,
) -> str | None:
    """Changes with anything that changes the levels of a model's backbone, rounding apart.

    The backbone and its weights, the transforms, the slices seen together, the normalisation.

    Args:
        model: with its weights; of slices or of exams.
        config: of the model.
        pipeline: configs of the transforms, from Hounsfield units to the packed input.
        neighbours: slices on each side that are seen with a slice; None where steps are others.

    Returns:
        None where there is no backbone that looks at single slices.
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
    """Of steps that are single slices, those seen on each side; None of others."""
    return steps.neighbours if isinstance(steps, SliceSteps) else None


def _is_padded(model: nn.Module, pipeline: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a model of slices pads them, which a model of exams does not."""
    if not isinstance(model, PEUnified):
        return False
    sizes = [step["size"] for step in pipeline if step["type"] == "ResizeSlice"]
    sides = [side for size in sizes for side in ([size] if isinstance(size, int) else size)]
    preprocessor: Any = model.data_preprocessor
    return not sides or any(preprocessor.padded(side) != side for side in sides)
