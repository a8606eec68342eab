"""NFN+: a UNet whose features are refined by a second one."""

from collections.abc import Sequence

import torch
from mmengine.model import ModuleList
from torch import Tensor, nn

from pe_unified.models.conv_blocks import convs, resized
from pe_unified.models.logit_conv import LogitConv
from pe_unified.models.nets.whole_net import WholeNet
from pe_unified.models.presets import base_width
from pe_unified.registry import MODELS


@MODELS.register_module()
class NFNPlus(WholeNet):
    """Wu et al., Neural Networks 126 (2020), 153-162: a network followed by a network.

    Two UNets with two poolings each. The second reads the last map of the first and joins the first
    one's maps of the same size on the way down. The first gives the side output.

    Args:
        preset: ``"seed"`` (32 channels at full size) or ``"paper"`` (64).
        base_channels: instead of the preset's.
        dropout: probability between the two convolutions of a block.
        deep_supervision: use the side output in training.
        image_channels: channels of the image.
        in_channels, in_strides: the backbone's levels; unused.
    """

    def __init__(
        self,
        preset: str = "seed",
        base_channels: int | None = None,
        dropout: float = 0.2,
        deep_supervision: bool = True,
        image_channels: int = 3,
        in_channels: Sequence[int] = (),
        in_strides: Sequence[int] = (),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Kaiming", layer="Conv2d"))
        base = base_width(preset, base_channels)
        widths = (base, 2 * base, 4 * base)
        self.front = _TwoPoolings(image_channels, widths, (0, 0), dropout)
        self.followed = _TwoPoolings(base, widths, widths[1:], dropout)
        self.sides = 1 if deep_supervision else 0
        self.side_logits = ModuleList(LogitConv(base) for _ in range(self.sides))
        self.out_channels = base

    def maps(self, image: Tensor) -> list[Tensor]:
        coarsest, middle, front = self.front(image)
        *_, refined = self.followed(front, (middle, coarsest))
        return [refined, front]

    def with_sides(self, features: Sequence[Tensor], image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See :class:`~pe_unified.models.protocols.SupervisedDecoder`."""
        refined, front = self.maps(image)
        return refined, [logits(front) for logits in self.side_logits]


class _TwoPoolings(nn.Module):
    """A UNet with two poolings, whose lower levels may join further maps of their size.

    Args:
        in_channels: channels of the input.
        widths: channels of the levels.
        joined: channels that join the second and the third level.
        dropout: probability between the two convolutions of a block.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        joined: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        given = (in_channels, widths[0] + joined[0], widths[1] + joined[1])
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.down = nn.ModuleList(
            convs((known, width, width), dropout=dropout) for known, width in zip(given, widths)
        )
        self.up = nn.ModuleList(
            convs((coarse + width, width, width), dropout=dropout)
            for coarse, width in ((widths[2], widths[1]), (widths[1], widths[0]))
        )

    def forward(self, x: Tensor, joined: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor, Tensor]:
        """The coarsest level, and the decoder's maps at half and at full size.

        Args:
            x: (n, in_channels, rows, cols).
            joined: maps that join the second and the third level.
        """
        full = self.down[0](x)
        half = self.down[1](torch.cat([*joined[:1], self.pool(full)], dim=1))
        quarter = self.down[2](torch.cat([*joined[1:], self.pool(half)], dim=1))
        middle = self.up[0](torch.cat([half, resized(quarter, half)], dim=1))
        return quarter, middle, self.up[1](torch.cat([full, resized(middle, full)], dim=1))
