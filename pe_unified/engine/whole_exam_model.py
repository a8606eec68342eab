"""Join an exam model on stored features with the encoder that computes the features."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pe_unified.checkpoints import load_checkpoint_safely, tensors_of, training_data
from pe_unified.datasets.feature_store import FeatureStore, digest_of_tensors
from pe_unified.errors import CheckpointError

_SPLITS = ("train", "val", "test")
#: Top-level settings of the input.
_OF_THE_INPUT = ("input_size", "windows", "neighbours")


@dataclass(frozen=True)
class Whole:
    """A model that reads slices, made from one that reads their features.

    Fields:
        settings: config, including the encoder and the pipeline of slices before it.
        tensors: weights of both, by name.
        trained_on: what the encoder was trained on.
    """

    settings: dict[str, Any]
    tensors: dict[str, Tensor]
    trained_on: list[dict[str, Any]]


def with_encoder(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor], trust: bool = False
) -> Whole:
    """Add the encoder to a model that was trained on its features.

    Args:
        settings: config of the model, with the folder of its ``features``.
        tensors: its weights, by name.
        trust: see :func:`~pe_unified.checkpoints.load_checkpoint_safely`.

    Raises:
        FeatureError: the features are missing.
        CheckpointError: the weights of the encoder are missing or have changed.
    """
    store = FeatureStore(settings["features"])
    source = store.source
    stored = load_checkpoint_safely(store.encoder, trust)
    encoder = {
        name: value for name, value in tensors_of(stored).items() if name.startswith("encoder.")
    }
    bare = {name.removeprefix("encoder."): value for name, value in encoder.items()}
    if digest_of_tensors(bare) != source.weights:
        raise CheckpointError(
            f"{store.encoder}: the features in its folder were made with other weights; extract "
            "the features again, and train again on them"
        )
    whole = copy.deepcopy(dict(settings))
    whole["model"] = {**whole["model"], "encoder": dict(source.encoder)}
    whole["model"]["data_preprocessor"] = dict(source.normalisation)
    whole["model"].pop("in_channels")
    for split in _SPLITS:
        dataset = (whole.get(f"{split}_dataloader") or {}).get("dataset")
        if dataset:
            dataset |= {"pipeline": source.pipeline, "steps": dict(source.steps), "features": None}
    whole.pop("features")
    own = (stored.get("meta") or {}).get("cfg") or {}
    whole |= {name: own[name] for name in _OF_THE_INPUT if name in own}
    return Whole(whole, {**encoder, **tensors}, training_data(stored))
