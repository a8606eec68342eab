"""U2-Net: a UNet in which every block is a UNet."""

from collections.abc import Sequence

import torch
from mmengine.model import ModuleList
from torch import Tensor, nn

from pe_unified.models.conv_blocks import conv, resized
from pe_unified.models.logit_conv import LogitConv
from pe_unified.models.nets.whole_net import WholeNet
from pe_unified.models.presets import base_width
from pe_unified.registry import MODELS

#: For each stage's block: height, whether it is flat, and its inner and output channels in quarters
#: of the base width.
_DOWN = (
    (7, False, 2, 4),
    (6, False, 2, 8),
    (5, False, 4, 16),
    (4, False, 8, 32),
    (4, True, 16, 32),
    (4, True, 16, 32),
)
_UP = ((4, True, 16, 32), (4, False, 8, 16), (5, False, 4, 8), (6, False, 2, 4), (7, False, 1, 4))


@MODELS.register_module()
class U2Net(WholeNet):
    """Qin et al. (https://arxiv.org/abs/2005.09007): six stages down, five up, of UNet blocks.

    The last stage down and every stage up give a map of logits. The network's map is these six at
    full size; the head's 1x1 convolution fuses them. Deep supervision also trains each of them.

    Args:
        small: U2-NetP, whose stages all have the base width, and a quarter of it inside.
        preset: ``"seed"`` or ``"paper"``, which are the same network with base width 64.
        base_channels: channels of the first stage, instead of 64; a multiple of 4.
        deep_supervision: losses on the six maps in training.
        image_channels: channels of the image.
        in_channels, in_strides: the backbone's levels; unused.
    """

    def __init__(
        self,
        small: bool = False,
        preset: str = "seed",
        base_channels: int | None = None,
        deep_supervision: bool = True,
        image_channels: int = 3,
        in_channels: Sequence[int] = (),
        in_strides: Sequence[int] = (),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Kaiming", layer="Conv2d"))
        quarter = base_width(preset, base_channels, seed=64, paper=64) // 4
        down, up = _DOWN, _UP
        if small:
            down, up = ([(*kind, 1, 4) for *kind, _, _ in stages] for stages in (_DOWN, _UP))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.down = nn.ModuleList()
        width, skips = image_channels, []
        for height, flat, mid, out in down:
            self.down.append(ResidualUBlock(height, flat, width, mid * quarter, out * quarter))
            width = out * quarter
            skips.append(width)
        self.up = nn.ModuleList()
        ends = [skips.pop()]
        for height, flat, mid, out in up:
            given = ends[-1] + skips.pop()
            self.up.append(ResidualUBlock(height, flat, given, mid * quarter, out * quarter))
            ends.append(out * quarter)
        self.side_logits = ModuleList(LogitConv(end, kernel_size=3, prior=0.5) for end in ends)
        self.out_channels = len(ends)
        self.sides = len(ends) if deep_supervision else 0

    def maps(self, image: Tensor) -> list[Tensor]:
        levels: list[Tensor] = []
        for stage in self.down:
            levels.append(stage(self.pool(levels[-1]) if levels else image))
        ends = [levels.pop()]
        for stage in self.up:
            level = levels.pop()
            ends.append(stage(torch.cat([resized(ends[-1], level), level], dim=1)))
        logits = [layer(end) for layer, end in zip(self.side_logits, ends)]
        return [torch.cat([resized(each, logits[-1]) for each in logits], dim=1), *logits]

    def with_sides(self, features: Sequence[Tensor], image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See :class:`~pe_unified.models.protocols.SupervisedDecoder`."""
        joined, *sides = self.maps(image)
        return joined, sides


class ResidualUBlock(nn.Module):
    """RSU: a convolution plus a small UNet on its output (figure 2 e of the paper).

    Args:
        height: convolutions on the way down, the last of which is dilated.
        flat: dilations 1, 2, 4, 8 instead of poolings (RSU-4F).
        in_channels, mid_channels, out_channels: channels of the input, inside, and of the output.
    """

    def __init__(
        self, height: int, flat: bool, in_channels: int, mid_channels: int, out_channels: int
    ) -> None:
        super().__init__()
        mid = mid_channels
        dilations = [2**row for row in range(height)] if flat else [1] * (height - 1) + [2]
        widths = [mid] * (height - 2) + [out_channels]
        self.entry = conv(in_channels, out_channels)
        self.down = nn.ModuleList(
            conv(given, mid, dilation=dilation)
            for given, dilation in zip([out_channels] + [mid] * height, dilations)
        )
        self.up = nn.ModuleList(
            conv(2 * mid, width, dilation=dilation if flat else 1)
            for width, dilation in zip(widths, dilations[-2::-1])
        )
        self.flat = flat
        self.pool = nn.Identity() if flat else nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, inputs: Tensor) -> Tensor:
        entered = self.entry(inputs)
        *pooled, bottom = self.down
        maps: list[Tensor] = []
        for block in pooled:
            maps.append(block(self.pool(maps[-1]) if maps else entered))
        first, *others = self.up
        x = first(torch.cat([bottom(maps[-1]), maps.pop()], dim=1))
        for block, level in zip(others, reversed(maps), strict=True):
            x = block(torch.cat([x if self.flat else resized(x, level), level], dim=1))
        return entered + x
