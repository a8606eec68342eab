"""A UNet decoder that takes its sizes from what the backbone declares."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from pe_unified.registry import MODELS


@MODELS.register_module()
class UNetDecoder(BaseModule):
    """From the coarsest level back to the finest, joining every level on the way.

    After U-Net (https://arxiv.org/abs/1505.04597). The backbone's levels are wide (ResNet-50:
    256 to 2048 channels), and 3x3 convolutions on them would cost as much as the backbone; so
    every level is first squeezed by a 1x1 convolution. Emboli are a few pixels across: blocks
    beyond the finest level go on to ``out_stride``, and a shallow look at the image itself
    (``detail_channels``) brings back the edges that the backbone's stem smooths away.

    Args:
        in_channels: channels of the levels, finest first.
        in_strides: their strides.
        channels: width of each block, coarsest first: one block per finer level, then one per
            doubling from the finest level to ``out_stride``.
        out_stride: input pixels per output pixel: 1, 2 or the finest level's stride.
        skip_channels: every level is squeezed to this width; None joins them whole.
        detail_channels: channels of the image's own skip connection at ``out_stride``; 0 for
            none. Needs ``out_stride`` finer than the finest level.
        convs_per_block: 3x3 convolutions in each block.
        norm_cfg: normalisation layers, as in mmcv.
        image_channels: channels of the image, for ``detail_channels``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int] = (4, 8, 16, 32),
        channels: Sequence[int] = (128, 96, 64, 32),
        out_stride: int = 2,
        skip_channels: int | None = 64,
        detail_channels: int = 0,
        convs_per_block: int = 2,
        norm_cfg: Mapping[str, Any] = dict(type="BN"),
        image_channels: int = 3,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Kaiming", layer="Conv2d"))
        beyond = _doublings(in_strides[0], out_stride)
        blocks = len(in_channels) - 1 + beyond
        if len(channels) != blocks:
            raise ValueError(
                f"{len(in_channels)} levels down to stride {in_strides[0]} and out_stride "
                f"{out_stride} make {blocks} blocks; channels has {len(channels)} entries"
            )
        if detail_channels and not beyond:
            raise ValueError(
                f"detail_channels joins the image at out_stride, which must be finer than the "
                f"finest level's stride {in_strides[0]}; got out_stride {out_stride}"
            )
        layer = dict(norm_cfg=dict(norm_cfg), act_cfg=dict(type="ReLU"))
        if skip_channels is None:
            widths = list(in_channels)
            self.squeeze = nn.ModuleList(nn.Identity() for _ in in_channels)
        else:
            widths = [skip_channels] * (len(in_channels) - 1) + [channels[0]]
            self.squeeze = nn.ModuleList(
                ConvModule(given, width, 1, **layer) for given, width in zip(in_channels, widths)
            )
        if detail_channels:
            self.detail = ConvModule(
                image_channels, detail_channels, 3, stride=out_stride, padding=1, **layer
            )
        else:
            self.detail = None
        joined = widths[-2::-1] + [0] * beyond
        joined[-1] += detail_channels
        self.blocks = nn.ModuleList()
        width = widths[-1]
        for skip, out in zip(joined, channels):
            sizes = [width + skip, *[out] * convs_per_block]
            self.blocks.append(
                nn.Sequential(
                    *(ConvModule(a, b, 3, padding=1, **layer) for a, b in pairwise(sizes))
                )
            )
            width = out
        self.out_channels = width
        self.out_stride = out_stride
        self.levels_read = tuple(range(len(in_channels)))

    def forward(self, features: Sequence[Tensor], image: Tensor | None = None) -> Tensor:
        """Decode.

        Args:
            features: levels (n, channels, rows, cols), finest first.
            image: (n, channels, rows, cols), the network's input; needed for
                ``detail_channels``.

        Returns:
            (n, out_channels, rows, cols) at ``out_stride``.
        """
        levels = [squeeze(level) for squeeze, level in zip(self.squeeze, features)]
        x = levels.pop()
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            joined = [levels.pop()] if levels else []
            if index == last and self.detail is not None:
                if image is None:
                    raise ValueError("detail_channels needs the image beside the features")
                joined.append(self.detail(image))
            if joined:
                x = F.interpolate(x, size=joined[0].shape[-2:], mode="nearest")
                x = torch.cat([x, *joined], dim=1)
            else:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(x)
        return x


def _doublings(finest: int, out_stride: int) -> int:
    count = 0
    while out_stride << count < finest:
        count += 1
    if out_stride < 1 or out_stride << count != finest:
        raise ValueError(f"out_stride {out_stride}: {finest} is not 1, 2, 4, ... times it")
    return count
