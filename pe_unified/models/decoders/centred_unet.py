"""A UNet decoder for ImageNet backbones: a centre block and learned upsampling."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from pe_unified.models.conv_blocks import conv_block, resized
from pe_unified.registry import MODELS


@MODELS.register_module()
class CentredUNetDecoder(BaseModule):
    """Two convolutions below the coarsest level, then up by transposed convolutions.

    The centre is twice as wide as the coarsest level. Every level is joined with the same number of
    upsampled channels: on a ResNet-34 the blocks have 512, 256, 128 and 64 channels and the centre
    1024.

    Args:
        in_channels: channels of the levels, finest first.
        in_strides: their strides.
        norm_cfg: normalisation layers, as in mmcv.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int] = (4, 8, 16, 32),
        norm_cfg: Mapping[str, Any] = dict(type="BN"),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Kaiming", layer=["Conv2d", "ConvTranspose2d"]))
        coarsest = in_channels[-1]
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.centre = conv_block("double", coarsest, 2 * coarsest, norm_cfg)
        levels = list(in_channels)[::-1]
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(given, width, 2, stride=2)
            for given, width in zip([2 * coarsest, *levels], levels)
        )
        self.blocks = nn.ModuleList(
            conv_block("double", 2 * width, width, norm_cfg) for width in levels
        )
        self.out_channels = levels[-1]
        self.out_stride = in_strides[0]
        self.levels_read = tuple(range(len(in_channels)))

    def forward(self, features: Sequence[Tensor], image: Tensor | None = None) -> Tensor:
        """(n, out_channels, rows, cols) at the stride of the finest level."""
        x = self.centre(self.pool(features[-1]))
        for up, block, level in zip(self.ups, self.blocks, reversed(features)):
            x = block(torch.cat([resized(up(x), level), level], dim=1))
        return x
