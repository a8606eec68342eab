"""The part of a model's config that reads the images."""

from collections.abc import Mapping
from typing import Any


def image_network(model: Mapping[str, Any]) -> tuple[Any, str]:
    """The config of the network that reads images, and its path in the model's config.

    Returns:
        ``model["backbone"]`` of a slice model, or its decoder if there is no backbone; the encoder
        of an exam model, or the backbone in it. ``(None, "")`` if the input is stored features.
    """
    if is_whole_net(model):
        return model["seg_head"]["decoder"], "seg_head.decoder"
    if model.get("backbone"):
        return model["backbone"], "backbone"
    encoder = model.get("encoder")
    if not encoder:
        return None, ""
    if encoder.get("backbone"):
        return encoder["backbone"], "encoder.backbone"
    return encoder, "encoder"


def is_whole_net(model: Mapping[str, Any]) -> bool:
    """Whether a slice model has no backbone, so that its decoder reads only the image."""
    kind = (model.get("backbone") or {}).get("type")
    name = kind.__name__ if isinstance(kind, type) else str(kind).rpartition(".")[2]
    return name == "NoBackbone"


def without_start(model: Mapping[str, Any]) -> None:
    """Remove ``pretrained`` from a model's config, for models loaded from a checkpoint."""
    network, _ = image_network(model)
    if network and "pretrained" in network:
        network["pretrained"] = None
