"""The decoder of Attention U-Net: coarser features weight the skip connections."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pe_unified.models.conv_blocks import resized
from pe_unified.models.decoders.unet import UNetDecoder
from pe_unified.registry import MODELS


@MODELS.register_module()
class AttentionUNetDecoder(UNetDecoder):
    """A UNet decoder with a gate on every skip connection.

    Args:
        in_channels, in_strides: the backbone's levels, finest first.
        options: further arguments of :class:`~pe_unified.models.decoders.unet.UNetDecoder`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int] = (4, 8, 16, 32),
        **options: Any,
    ) -> None:
        super().__init__(in_channels, in_strides, **options)
        self.gates = nn.ModuleList(AttentionGate(level, coarse) for level, coarse in self.joins)

    def skip(self, index: int, level: Tensor, coarse: Tensor) -> Tensor:
        return self.gates[index](level, coarse)


class AttentionGate(nn.Module):
    """The additive grid gate of Attention U-Net.

    Oktay et al. (https://arxiv.org/abs/1804.03999), figure 2, with the sub-sampling and the output
    transform of the authors' code: the level at half its size and the coarser features are each
    projected to half the level's channels and added. From the sum comes one weight between 0 and 1
    per cell.

    Args:
        channels: channels of the level.
        coarse_channels: channels of the coarser features.
    """

    def __init__(self, channels: int, coarse_channels: int) -> None:
        super().__init__()
        width = max(1, channels // 2)
        self.of_level = nn.Conv2d(channels, width, 2, stride=2, bias=False)
        self.of_coarse = nn.Conv2d(coarse_channels, width, 1)
        self.weight = nn.Conv2d(width, 1, 1)
        self.output = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, level: Tensor, coarse: Tensor) -> Tensor:
        """The weighted level, (n, channels, rows, cols)."""
        seen = self.of_level(level)
        seen = (seen + resized(self.of_coarse(coarse), seen)).relu()
        return self.output(level * resized(self.weight(seen).sigmoid(), level))
