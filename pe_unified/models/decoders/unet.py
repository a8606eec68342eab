"""A UNet decoder that derives its sizes from the declared levels of the backbone."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from pe_unified.models.conv_blocks import conv_block, convs, resized
from pe_unified.registry import MODELS


@MODELS.register_module()
class UNetDecoder(BaseModule):
    """From the coarsest level to the finest, joining every level on the way.

    After U-Net (https://arxiv.org/abs/1505.04597). The backbone's levels are wide (ResNet-50: 256
    to 2048 channels), and 3x3 convolutions on them would cost as much as the backbone; so a 1x1
    convolution first reduces the channels of every level. Emboli are only a few pixels across:
    further blocks continue from the finest level to ``out_stride``, and a skip connection from the
    image itself (``detail_channels``) restores edges that the backbone's stem smooths away.

    The published decoder is ``UNetDecoder(channels=None, skip_channels=None, out_stride=1,
    upsample="bilinear")`` on a :class:`~pe_unified.models.backbones.unet_encoder.UNetEncoder`.

    Args:
        in_channels: channels of the levels, finest first.
        in_strides: their strides.
        channels: width of each block, coarsest first: one block per finer level, then one per
            doubling from the finest level to ``out_stride``; None for the widths of the finer
            levels.
        out_stride: input pixels per output pixel: 1, 2 or the finest level's stride.
        skip_channels: every level is reduced to this width; None joins all channels.
        detail_channels: channels of the skip connection from the image at ``out_stride``; 0 for
            none. Requires an ``out_stride`` finer than the finest level.
        convs_per_block: 3x3 convolutions in each block, for ``block="double"``.
        norm_cfg: normalisation layers, as in mmcv.
        image_channels: channels of the image, for ``detail_channels``.
        block: ``"double"``, or ``"recurrent"`` for the blocks of R2U-Net; see
            :func:`~pe_unified.models.conv_blocks.conv_block`.
        upsample: ``"nearest"`` or ``"bilinear"``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int] = (4, 8, 16, 32),
        channels: Sequence[int] | None = (128, 96, 64, 32),
        out_stride: int = 2,
        skip_channels: int | None = 64,
        detail_channels: int = 0,
        convs_per_block: int = 2,
        norm_cfg: Mapping[str, Any] = dict(type="BN"),
        image_channels: int = 3,
        block: str = "double",
        upsample: str = "nearest",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Kaiming", layer="Conv2d"))
        beyond = _doublings(in_strides[0], out_stride)
        blocks = len(in_channels) - 1 + beyond
        if channels is None:
            channels = list(in_channels[-2::-1])
        if upsample not in ("nearest", "bilinear"):
            raise ValueError(f"upsample is 'nearest' or 'bilinear', got {upsample!r}")
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
        given = [widths[-1], *channels]
        #: For every joined level, coarsest first: its channels and those of the coarser map.
        self.joins = list(zip(widths[-2::-1], given))
        joined = widths[-2::-1] + [0] * beyond
        joined[-1] += detail_channels
        self.blocks = nn.ModuleList(
            convs((width + skip, *[out] * convs_per_block), norm_cfg)
            if block == "double"
            else conv_block(block, width + skip, out, norm_cfg)
            for width, skip, out in zip(given, joined, channels)
        )
        self.out_channels = given[-1]
        self.out_stride = out_stride
        self.upsample = upsample
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
            joined = [self.skip(index, levels.pop(), x)] if levels else []
            if index == last and self.detail is not None:
                if image is None:
                    raise ValueError("detail_channels needs the image beside the features")
                joined.append(self.detail(image))
            if joined:
                x = torch.cat([resized(x, joined[0], self.upsample), *joined], dim=1)
            else:
                x = F.interpolate(x, scale_factor=2, mode=self.upsample)
            x = block(x)
        return x

    def skip(self, index: int, level: Tensor, coarse: Tensor) -> Tensor:
        """The part of a level that is joined: all of it.

        Args:
            index: number of the join, coarsest first.
            level: (n, channels, rows, cols).
            coarse: (n, channels, rows, cols), the map of half the size that is joined with it.
        """
        return level


def _doublings(finest: int, out_stride: int) -> int:
    count = 0
    while out_stride << count < finest:
        count += 1
    if out_stride < 1 or out_stride << count != finest:
        raise ValueError(f"out_stride {out_stride}: {finest} is not 1, 2, 4, ... times it")
    return count
