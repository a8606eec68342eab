"""AANet: emboli in a CT volume, with attention on the arteries.

Guan et al., MICCAI 2022, https://doi.org/10.1007/978-3-031-16431-6_45. Every convolution has
standardised weights (https://arxiv.org/abs/1903.10520) and no bias, followed by group norm with
four channels per group and, except before an addition, ReLU.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from pe_unified.registry import MODELS

#: Initial probability of a map.
_PRIOR = 0.01
_PER_GROUP = 4
#: Added to the variance when weights are standardised to mean 0 and variance 1.
_EPSILON = 1e-6
#: Residual blocks per level of the encoder and of the decoder, finest first.
_DOWN, _UP = (2, 3, 3, 3), (1, 2, 2)
_DILATIONS = (3, 5, 7, 9)


class StandardisedConv3d(nn.Conv3d):
    """A convolution without bias whose weights have mean 0 and variance 1 per filter."""

    def __init__(self, inside: int, outside: int, size: int, stride: int = 1, dilation: int = 1):
        padding = dilation * (size - 1) // 2 if size % 2 else 0
        super().__init__(inside, outside, size, stride, padding, dilation, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        weight = _standardised(self.weight.flatten(1)).view_as(self.weight)
        return F.conv3d(features, weight, None, self.stride, self.padding, self.dilation)


class StandardisedUp3d(nn.ConvTranspose3d):
    """The same as a transposed convolution of stride 2, which doubles the size."""

    def __init__(self, inside: int, outside: int):
        super().__init__(inside, outside, kernel_size=2, stride=2, bias=False)

    def forward(self, features: Tensor, output_size: list[int] | None = None) -> Tensor:
        by_filter = self.weight.transpose(0, 1)
        weight = _standardised(by_filter.flatten(1)).view_as(by_filter).transpose(0, 1)
        return F.conv_transpose3d(features, weight, None, self.stride)


def _standardised(weight: Tensor) -> Tensor:
    """Standardise the rows of a matrix, in float32 even if the network uses less."""
    variance, mean = torch.var_mean(weight.float(), dim=1, correction=0, keepdim=True)
    return (weight - mean) * (variance + _EPSILON).rsqrt()


def _normed(convolution: nn.Module, channels: int, active: bool = True) -> nn.Sequential:
    layers = [convolution, nn.GroupNorm(channels // _PER_GROUP, channels)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if active else []))


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions and a skip connection, with a 1x1x1 convolution if widths differ."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.body = nn.Sequential(
            _normed(StandardisedConv3d(inside, outside, 3), outside),
            _normed(StandardisedConv3d(outside, outside, 3), outside, active=False),
        )
        self.skip: nn.Module = nn.Identity()
        if inside != outside:
            self.skip = _normed(StandardisedConv3d(inside, outside, 1), outside, active=False)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.body(features) + self.skip(features), inplace=True)


def _stage(blocks: int, inside: int, outside: int) -> nn.Sequential:
    widths = [inside, *(outside for _ in range(blocks))]
    return nn.Sequential(*(ResidualBlock(*pair) for pair in pairwise(widths)))


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: parallel 1x1x1 and dilated 3x3x3 convolutions, mixed."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.branches = nn.ModuleList(
            _normed(StandardisedConv3d(inside, outside, size, dilation=dilation), outside)
            for size, dilation in ((1, 1), *((3, dilation) for dilation in _DILATIONS))
        )
        whole = len(self.branches) * outside
        self.mix = _normed(StandardisedConv3d(whole, outside, 1), outside)

    def forward(self, features: Tensor) -> Tensor:
        return self.mix(torch.cat([branch(features) for branch in self.branches], dim=1))


class Trunk(nn.Module):
    """Encoder, decoder and pyramid: from the volume to features at half its resolution.

    Args:
        stem: channels at full size.
        channels: channels of the four levels, at 1/2, 1/4, 1/8 and 1/16 of the size.
        fused: channels of every level for fusion, and of the features.
    """

    #: Every side of a volume is a multiple of it.
    stride = 16

    def __init__(self, stem: int, channels: Sequence[int], fused: int):
        super().__init__()
        self.stem = nn.Sequential(
            _normed(StandardisedConv3d(1, stem, 3), stem),
            _normed(StandardisedConv3d(stem, channels[0], 3, stride=2), channels[0]),
        )
        self.stages = nn.ModuleList(
            _stage(blocks, width, width) for blocks, width in zip(_DOWN, channels, strict=True)
        )
        self.shrink = nn.ModuleList(
            _normed(StandardisedConv3d(fine, coarse, 2, stride=2), coarse)
            for fine, coarse in pairwise(channels)
        )
        widths = (fused, *channels[1:])
        self.grow, self.skips, self.joins = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, blocks in enumerate(_UP):
            width = widths[level]
            self.grow.append(_normed(StandardisedUp3d(widths[level + 1], width), width))
            self.skips.append(ResidualBlock(channels[level], width))
            self.joins.append(_stage(blocks, 2 * width, width))
        self.level = nn.ModuleList(
            _normed(StandardisedConv3d(width, fused, 1), fused) for width in widths[1:]
        )
        self.pyramid = Pyramid(fused * len(channels), fused)

    def forward(self, volume: Tensor) -> Tensor:
        """(n, fused, z / 2, y / 2, x / 2).

        Args:
            volume: float (n, 1, z, y, x), sides multiples of 16.
        """
        features = self.stem(volume)
        found = []
        for level, stage in enumerate(self.stages):
            features = stage(self.shrink[level - 1](features) if level else features)
            found.append(features)
        levels = [features]
        for level in reversed(range(len(self.joins))):
            both = [self.grow[level](features), self.skips[level](found[level])]
            features = self.joins[level](torch.cat(both, dim=1))
            levels.append(features)
        *coarse, finest = levels
        for squeeze, each in zip(self.level, reversed(coarse), strict=True):
            finest = torch.cat([finest, self._at_half(squeeze(each), finest)], dim=1)
        return self.pyramid(finest)

    @staticmethod
    def _at_half(features: Tensor, finest: Tensor) -> Tensor:
        return F.interpolate(features, size=finest.shape[2:], mode="nearest")


class MapHead(nn.Module):
    """Logits at full size from features at half size.

    Args:
        inside: channels of the features.
        prior: initial probability of every voxel.
    """

    def __init__(self, inside: int, prior: float = _PRIOR):
        super().__init__()
        width = max(_PER_GROUP, inside // 2)
        self.grow = _normed(StandardisedUp3d(inside, width), width)
        self.output = nn.Conv3d(width, 1, 3, padding=1)
        nn.init.zeros_(self.output.weight)
        nn.init.constant_(self.output.bias, math.log(prior / (1 - prior)))  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        return self.output(self.grow(features))


@MODELS.register_module()
class AANet3D(BaseModule):
    """Logits of emboli and of arteries; the artery map gates the features for emboli.

    The artery probability, max-pooled to the size of the features, multiplies them before the
    embolus head; its gradient is kept. In the paper it starts at .01, so that the embolus head
    receives almost no signal: use a trained artery head, or let the gate start open.

    Args:
        width: fraction of the published channels; 1 gives 14.9 million parameters.
        artery: whether there is an artery head; without it there is no gate either.
        gate: whether arteries gate the features.
        embolus: whether there is an embolus head; without it the network learns only arteries.
        gate_start: initial artery probability of every voxel: ``"shut"`` for .01 as published, or
            ``"open"`` for .99.

    Raises:
        ValueError: no head, or an unknown ``gate_start``.
    """

    def __init__(
        self,
        width: float = 1.0,
        artery: bool = True,
        gate: bool = True,
        embolus: bool = True,
        gate_start: Literal["shut", "open"] = "shut",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not (artery or embolus):
            raise ValueError("the network needs an artery head, an embolus head or both")
        if gate_start not in ("shut", "open"):
            raise ValueError(f"gate_start is 'shut' or 'open', got {gate_start!r}")
        stem, *channels, fused = (_share(each, width) for each in (16, 64, 96, 128, 160, 32))
        self.trunk = Trunk(stem, channels, fused)
        start = _PRIOR if gate_start == "shut" else 1 - _PRIOR
        self.artery_head = MapHead(fused, start) if artery else None
        self.embolus_head = MapHead(fused) if embolus else None
        self.gate = gate and artery

    @property
    def stride(self) -> int:
        """Every side of a volume is a multiple of it."""
        return self.trunk.stride

    def forward(self, volume: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Logits of emboli and of arteries, float32 (n, 1, z, y, x); None without such a head.

        Args:
            volume: float (n, 1, z, y, x), Hounsfield units scaled to 0..1.

        Raises:
            ValueError: a side is no multiple of the stride.
        """
        sides = tuple(volume.shape[2:])
        if any(side % self.stride for side in sides):
            raise ValueError(f"sides must be multiples of {self.stride}, got {sides}")
        features = self.trunk(volume)
        artery = None if self.artery_head is None else self.artery_head(features).float()
        if self.embolus_head is None:
            return None, artery
        if self.gate and artery is not None:
            features = features * F.max_pool3d(artery.sigmoid(), 2).to(features.dtype)
        return self.embolus_head(features).float(), artery


def _share(channels: int, width: float) -> int:
    """A fraction of the channels, rounded to whole groups of the norm."""
    return max(1, round(channels * width / _PER_GROUP)) * _PER_GROUP
