"""Blocks of 3x3 convolutions for encoders and decoders of the UNet family."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from torch import Tensor, nn

_BATCH_NORM = dict(type="BN")


def conv_block(
    kind: str,
    in_channels: int,
    out_channels: int,
    norm_cfg: Mapping[str, Any] = _BATCH_NORM,
) -> nn.Module:
    """A block that keeps the number of rows and columns.

    Args:
        kind: ``"double"`` for two convolutions with norm and ReLU, or ``"recurrent"`` for a
            :class:`RecurrentResidualBlock`.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in _KINDS:
        raise ValueError(f"block is one of {', '.join(_KINDS)}, got {kind!r}")
    return _KINDS[kind](in_channels, out_channels, norm_cfg)


def convs(
    widths: Sequence[int], norm_cfg: Mapping[str, Any] = _BATCH_NORM, dropout: float = 0.0
) -> nn.Sequential:
    """3x3 convolutions with norm and ReLU from each width to the next, with dropout between."""
    layers: list[nn.Module] = []
    for given, width in pairwise(widths):
        if layers and dropout:
            layers.append(nn.Dropout(dropout))
        layers.append(conv(given, width, norm_cfg))
    return nn.Sequential(*layers)


def conv(
    in_channels: int,
    out_channels: int,
    norm_cfg: Mapping[str, Any] = _BATCH_NORM,
    dilation: int = 1,
) -> ConvModule:
    """A 3x3 convolution with norm and ReLU that keeps the number of rows and columns."""
    return ConvModule(
        in_channels,
        out_channels,
        3,
        padding=dilation,
        dilation=dilation,
        norm_cfg=dict(norm_cfg),
        act_cfg=dict(type="ReLU"),
    )


class RecurrentResidualBlock(nn.Module):
    """The block of R2U-Net (https://arxiv.org/abs/1802.06955, figure 4 d, t = 2).

    A 1x1 convolution to the block's width, two recurrent convolutions, and their sum.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm_cfg: Mapping[str, Any] = _BATCH_NORM,
        steps: int = 2,
    ) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels, out_channels, 1)
        self.body = nn.Sequential(
            RecurrentConv(out_channels, norm_cfg, steps),
            RecurrentConv(out_channels, norm_cfg, steps),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        projected = self.project(inputs)
        return projected + self.body(projected)


class RecurrentConv(nn.Module):
    """One convolution, applied to the input and then, ``steps`` times, to input plus output."""

    def __init__(self, channels: int, norm_cfg: Mapping[str, Any], steps: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = build_norm_layer(dict(norm_cfg), channels)[1]
        self.steps = steps

    def forward(self, inputs: Tensor) -> Tensor:
        output = self._once(inputs)
        for _ in range(self.steps):
            output = self._once(inputs + output)
        return output

    def _once(self, inputs: Tensor) -> Tensor:
        return self.norm(self.conv(inputs)).relu()


def resized(x: Tensor, like: Tensor, mode: str = "bilinear") -> Tensor:
    """A map resized to another's rows and columns; ``mode``: ``"bilinear"`` or ``"nearest"``."""
    return F.interpolate(x, size=like.shape[-2:], mode=mode, align_corners=_CORNERS[mode])


#: ``align_corners`` for each mode; torch takes only None for ``"nearest"``.
_CORNERS = {"bilinear": False, "nearest": None}


def _double(in_channels: int, out_channels: int, norm_cfg: Mapping[str, Any]) -> nn.Module:
    return convs((in_channels, out_channels, out_channels), norm_cfg)


_KINDS: dict[str, Callable[[int, int, Mapping[str, Any]], nn.Module]] = {
    "double": _double,
    "recurrent": RecurrentResidualBlock,
}
