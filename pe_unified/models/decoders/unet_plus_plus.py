"""The decoder of UNet++: nested skip connections with an output at each depth."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from pe_unified.models.conv_blocks import conv_block, resized
from pe_unified.models.logit_conv import LogitConv
from pe_unified.registry import MODELS


@MODELS.register_module()
class UNetPlusPlusDecoder(BaseModule):
    """Nodes between every level and the decoder that also read the level below.

    UNet++ (https://arxiv.org/abs/1807.10165), equation 1: node j of a level takes the level, the
    nodes before it and node j - 1 of the level below, enlarged. The last node of the finest level
    is the map; the nodes before it are outputs of UNets with fewer levels and give the side
    outputs.

    Args:
        in_channels: channels of the levels, finest first.
        in_strides: their strides.
        channels: width of the nodes of each level but the coarsest, coarsest first; None for the
            widths of the levels.
        deep_supervision: use side outputs in training.
        block: see :func:`~pe_unified.models.conv_blocks.conv_block`.
        norm_cfg: normalisation layers, as in mmcv.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int] = (4, 8, 16, 32),
        channels: Sequence[int] | None = None,
        deep_supervision: bool = True,
        block: str = "double",
        norm_cfg: Mapping[str, Any] = dict(type="BN"),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Kaiming", layer="Conv2d"))
        depth = len(in_channels) - 1
        widths = list(in_channels[:-1]) if channels is None else list(channels)[::-1]
        if len(widths) != depth:
            raise ValueError(f"{depth + 1} levels need {depth} channels; got {len(widths)}")
        #: Indexed by number on the level, then by level, finest first.
        self.nodes = nn.ModuleList()
        below = list(in_channels[1:])
        for number in range(depth):
            self.nodes.append(
                nn.ModuleList(
                    conv_block(
                        block,
                        in_channels[level] + number * widths[level] + below[level],
                        widths[level],
                        norm_cfg,
                    )
                    for level in range(depth - number)
                )
            )
            below = widths[1:]
        self.sides = depth - 1 if deep_supervision else 0
        self.side_logits = ModuleList(LogitConv(widths[0]) for _ in range(self.sides))
        self.out_channels = widths[0]
        self.out_stride = in_strides[0]
        self.levels_read = tuple(range(depth + 1))

    def forward(self, features: Sequence[Tensor], image: Tensor | None = None) -> Tensor:
        """(n, out_channels, rows, cols) at the stride of the finest level."""
        return self._finest(features)[-1]

    def with_sides(
        self, features: Sequence[Tensor], image: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """See :class:`~pe_unified.models.protocols.SupervisedDecoder`."""
        *inner, last = self._finest(features)
        return last, [logits(each) for logits, each in zip(self.side_logits, inner)]

    def _finest(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The nodes of the finest level."""
        rows = [[level] for level in features]
        for nodes in self.nodes:
            made = [
                node(torch.cat([*row, resized(below[-1], row[0])], dim=1))
                for node, row, below in zip(nodes, rows, rows[1:])
            ]
            for row, each in zip(rows, made):
                row.append(each)
        return rows[0][1:]
