"""Pretrained weights from torchvision, mmpretrain or a file, through one option."""

import os
import re
import urllib.error
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from pe_unified.checkpoints import load_checkpoint_safely, tensors_of
from pe_unified.errors import CheckpointError
from pe_unified.models.weights import ReuseReport, take_over

_TORCHVISION = "torchvision://"
#: Advice for files whose tensors come with code.
_SAVE_TENSORS = (
    "save its tensors alone: c = torch.load(FILE, weights_only=False); "
    "torch.save(c['state_dict'], 'weights.pth')"
)
_HASH = re.compile(r"-([0-9a-f]{8,})\.pth?$")
#: First layers of ResNet, Swin, and ResNet with a deep stem or for chunks.
_FIRST_LAYERS = ("conv1.weight", "patch_embed.projection.weight", "stem.0.weight")
_CLASSIFIERS = ("fc.", "head.")
#: Norms of a Swin's first three outputs, which classification checkpoints lack.
SWIN_FRESH = ("norm0.", "norm1.", "norm2.")


def load_pretrained(backbone: nn.Module, source: str | os.PathLike) -> ReuseReport:
    """Load a backbone's weights, strictly, and log what was taken.

    Args:
        backbone: a PEResNet, PESwin or R3D18Encoder.
        source: ``"torchvision://resnet50"`` (torchvision's best weights), or
            ``"torchvision://ResNet50_Weights.IMAGENET1K_V1"``; a URL; or a file. Supported are
            torchvision's ResNet (also for video) and Swin, mmpretrain's checkpoints, and any
            checkpoint with this backbone (names beginning with ``backbone.``), such as those of
            pe_unified. If the backbone's input does not have three channels, the weights of the
            three image channels are spread over its channels (repeated in turn for a multiple of
            three, else averaged), keeping their sum.

    Raises:
        CheckpointError: the file is unavailable or unreadable; the message says what to download
            and where to put it.
        ReuseError: the weights do not fit this backbone.
    """
    path = _as_file(os.fspath(source))
    try:
        stored = load_checkpoint_safely(path)
    except CheckpointError as error:
        text = str(error).replace("pass --trust-checkpoint", _SAVE_TENSORS)
        raise CheckpointError(f"pretrained: {text}") from error
    tensors = _spread_over_channels(backbone, backbone_tensors(backbone, tensors_of(stored)))
    report = take_over(backbone, tensors, "backbone", os.fspath(source), fresh=SWIN_FRESH)
    print_log(str(report), logger="current")
    return report


def backbone_tensors(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone tensors of a checkpoint, under this backbone's names."""
    own = {
        name.removeprefix("backbone."): value
        for name, value in tensors.items()
        if name.startswith("backbone.")
    }
    if own:
        return own
    if "features.0.0.weight" in tensors:
        return _from_torchvision_swin(backbone, tensors)
    return {name: value for name, value in tensors.items() if not name.startswith(_CLASSIFIERS)}


def _spread_over_channels(
    backbone: nn.Module, tensors: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """Weights of three input channels for a backbone with more or fewer."""
    own = backbone.state_dict()
    for name in _FIRST_LAYERS:
        if name not in own or name not in tensors:
            continue
        channels, given = own[name].shape[1], tensors[name].shape[1]
        if given == 3 and channels != 3:
            colours = tensors[name]
            if channels % 3:  # the same mean for each
                colours = colours.mean(1, keepdim=True).expand_as(colours)
            turns = [channel % 3 for channel in range(channels)]
            spread = colours[:, turns] * (given / channels)
            print_log(f"{name}: {given} channels spread over {channels}", logger="current")
            return {**tensors, name: spread}
    return tensors


def _as_file(source: str) -> Path:
    if source.startswith(_TORCHVISION):
        source = _torchvision_url(source.removeprefix(_TORCHVISION))
    if not source.startswith(("http://", "https://")):
        if "://" in source:
            raise CheckpointError(
                f"pretrained: {source}: known are torchvision://, http(s):// and files"
            )
        path = Path(source).expanduser()
        if not path.is_file():
            raise CheckpointError(
                f"pretrained: {path}: no such file; check the path, or give None to start from "
                "scratch"
            )
        return path
    path = Path(torch.hub.get_dir(), "checkpoints", _file_name(source))
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        marked = _HASH.search(path.name)  # torchvision and mmpretrain put a hash into the name
        torch.hub.download_url_to_file(source, str(path), marked[1] if marked else None)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", error)
        raise CheckpointError(
            f"pretrained: cannot download {source} ({reason}). Download it where there is a "
            f"network and put it at {path}; or give pretrained a local file, or None to start "
            f"from scratch"
        ) from error
    return path


def _file_name(url: str) -> str:
    return Path(urllib.parse.urlparse(url).path).name


def _torchvision_url(name: str) -> str:
    from torchvision import models

    try:
        weights = models.get_weight(name) if "." in name else models.get_model_weights(name).DEFAULT
    except (ValueError, AttributeError) as error:
        raise CheckpointError(
            f"pretrained: torchvision has no weights '{name}'; e.g. torchvision://resnet50, "
            f"torchvision://swin_t or torchvision://ResNet50_Weights.IMAGENET1K_V1"
        ) from error
    return weights.url


def _from_torchvision_swin(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's Swin under mmpretrain's names and in its order.

    Two orders differ. The table of relative position biases is indexed differently, and patch
    merging stacks the four neighbours as blocks of channels in torchvision but interleaves them
    within each channel in mmpretrain.
    """
    own = backbone.state_dict()
    converted = {}
    for name, value in tensors.items():
        if name.startswith(_CLASSIFIERS) or name.endswith("relative_position_index"):
            continue
        new = _swin_name(name)
        if name.endswith("relative_position_bias_table"):
            index_name = new.replace("bias_table", "index")
            theirs = tensors[name.replace("bias_table", "index")].flatten()
            if index_name in own:
                ours = own[index_name].flatten()
                converted[index_name] = own[index_name]
                if ours.shape == theirs.shape:
                    table = torch.empty_like(value)
                    table[ours] = value[theirs]
                    value = table
        elif ".downsample." in new:
            value = _interleave_neighbours(value)
        converted[new] = value
    return converted


def _swin_name(name: str) -> str:
    head, *rest = name.split(".")
    if head == "norm":
        return ".".join(["norm3", *rest])
    stage, part, *rest = rest
    if stage == "0":
        layer = {"0": "projection", "2": "norm"}[part]
        return ".".join(["patch_embed", layer, *rest])
    if int(stage) % 2 == 0:
        return ".".join([f"stages.{int(stage) // 2 - 1}.downsample", part, *rest])
    block = ".".join(rest)
    for theirs, ours in (
        ("attn.", "attn.w_msa."),
        ("mlp.0.", "ffn.layers.0.0."),
        ("mlp.3.", "ffn.layers.1."),
    ):
        if block.startswith(theirs):
            block = ours + block.removeprefix(theirs)
            break
    return f"stages.{(int(stage) - 1) // 2}.blocks.{part}.{block}"


def _interleave_neighbours(value: Tensor) -> Tensor:
    """Last axis from (column, row, channel) to (channel, row, column)."""
    channels = value.shape[-1] // 4
    split = value.reshape(*value.shape[:-1], 2, 2, channels)
    return split.movedim(-1, -3).transpose(-1, -2).reshape(value.shape)
