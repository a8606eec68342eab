"""Which part of a model's config takes the images."""

from collections.abc import Mapping
from typing import Any


def image_network(model: Mapping[str, Any]) -> tuple[Any, str]:
    """The config of the network that takes images, and its place in the model's.

    Returns:
        ``model["backbone"]`` of a slice model, or the decoder in its place where there is none; of
        an exam model its encoder, or the backbone in it. ``(None, "")`` where stored features come
        in.
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
    """Whether a slice model has no backbone: its decoder reads the image alone."""
    kind = (model.get("backbone") or {}).get("type")
    name = kind.__name__ if isinstance(kind, type) else str(kind).rpartition(".")[2]
    return name == "NoBackbone"


def without_start(model: Mapping[str, Any]) -> None:
    """Take out where the weights start from: a checkpoint brings its own."""
    network, _ = image_network(model)
    if network and "pretrained" in network:
        network["pretrained"] = None
