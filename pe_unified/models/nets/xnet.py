"""X-Net: two encoder-decoders, one after the other."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pe_unified.models.conv_blocks import conv, convs, resized
from pe_unified.models.nets.whole_net import WholeNet
from pe_unified.models.presets import base_width
from pe_unified.registry import MODELS


@MODELS.register_module()
class XNet(WholeNet):
    """Bullock et al. (https://arxiv.org/abs/1812.00548): a second pass down and up, at half size.

    One convolution per level, with 1, 2, 4 and 8 times the base width. The second encoder-decoder
    begins and ends at half size; only the last block joins the full size again. Levels are joined
    before the convolution of a block, not after it.

    Args:
        preset: ``"seed"`` (32 channels at full size) or ``"paper"`` (64).
        base_channels: instead of the preset's.
        image_channels: channels of the image.
        in_channels, in_strides: the backbone's levels; unused.
    """

    def __init__(
        self,
        preset: str = "seed",
        base_channels: int | None = None,
        image_channels: int = 3,
        in_channels: Sequence[int] = (),
        in_strides: Sequence[int] = (),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Kaiming", layer="Conv2d"))
        base = base_width(preset, base_channels)
        full, half, quarter, eighth = (base * 2**level for level in range(4))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.down = nn.ModuleList(
            [
                conv(image_channels, full),
                conv(full, half),
                conv(half, quarter),
                convs((quarter, eighth, eighth)),
            ]
        )
        self.up = nn.ModuleList([conv(eighth + quarter, quarter), conv(quarter + half, half)])
        self.down_again = nn.ModuleList(
            [conv(half, half), conv(half, quarter), convs((quarter, eighth, eighth))]
        )
        self.up_again = nn.ModuleList(
            [
                conv(eighth + quarter, quarter),
                conv(quarter + half, half),
                conv(half + full, full),
            ]
        )
        self.out_channels = full

    def maps(self, image: Tensor) -> list[Tensor]:
        full, *levels = self._encoded(image, self.down)
        half = _decoded(levels, self.up)
        return [_decoded([full, *self._encoded(half, self.down_again)], self.up_again)]

    def _encoded(self, x: Tensor, blocks: nn.ModuleList) -> list[Tensor]:
        levels: list[Tensor] = []
        for block in blocks:
            levels.append(block(self.pool(levels[-1]) if levels else x))
        return levels


def _decoded(levels: list[Tensor], blocks: nn.ModuleList) -> Tensor:
    *finer, x = levels
    for block, level in zip(blocks, reversed(finer), strict=True):
        x = block(torch.cat([level, resized(x, level)], dim=1))
    return x
