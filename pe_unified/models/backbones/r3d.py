"""torchvision's ResNet for chunks of slices, without its classifier."""

from contextlib import nullcontext
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.models.video.resnet import BasicBlock, Conv3DSimple

from pe_unified.models.backbones.levels import FeatureInfo, StagedNetwork, check_frozen
from pe_unified.registry import MODELS

_PARTS = ("stem", "layer1", "layer2", "layer3", "layer4")
_WIDENING = (1, 2, 4, 8)


@MODELS.register_module()
class R3D18Encoder(StagedNetwork, BaseModule):
    """ResNet-18 with 3D convolutions (https://arxiv.org/abs/1711.11248), from torchvision's blocks.

    It reads chunks, float (n, channels, slices, rows, cols), and returns 8 * ``base_channels``
    features per chunk: the average over the last stage. On a CPU it always computes in float32,
    because in bfloat16 some gradients of 3D convolutions are not finite there (seen with torch 2.13
    and AVX-512).

    Args:
        in_channels: channels of the input; pretrained weights are spread over them.
        base_channels: channels of the first stage; torchvision's weights need 64.
        frozen_stages, norm_eval: see
            :class:`~pe_unified.models.backbones.levels.StagedNetwork`.
        pretrained: None, ``"torchvision://r3d_18"`` (Kinetics-400), a URL, or a file; see
            :func:`~pe_unified.models.backbones.pretrained.load_pretrained`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        base_channels: int = 64,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        pretrained: str | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.frozen_stages, self.norm_eval = check_frozen(frozen_stages), norm_eval
        self.pretrained = pretrained
        channels = [base_channels * factor for factor in _WIDENING]
        self.feature_info = FeatureInfo(channels=tuple(channels), strides=(2, 4, 8, 16))
        self.out_channels = channels[-1]
        self.stem = nn.Sequential(
            nn.Conv3d(in_channels, base_channels, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
            nn.BatchNorm3d(base_channels),
            nn.ReLU(inplace=True),
        )
        before = [base_channels, *channels]
        for name, narrow, wide in zip(_PARTS[1:], before, channels):
            self.add_module(name, _stage(narrow, wide))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self._freeze_stages()

    def _stages(self) -> list[list[nn.Module]]:
        return [[self.get_submodule(name)] for name in _PARTS]

    def forward(self, inputs: Tensor) -> Tensor:
        """See :class:`~pe_unified.models.protocols.Encoder`."""
        on_cpu = inputs.device.type == "cpu"
        with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
            for (stage,) in self._stages():
                inputs = stage(inputs)
            return inputs.mean(dim=(2, 3, 4))


def _stage(narrow: int, wide: int) -> nn.Sequential:
    """Two blocks; if the width grows, the first one halves every side."""
    if narrow == wide:
        first = BasicBlock(narrow, wide, Conv3DSimple)
    else:
        shortcut = nn.Sequential(
            nn.Conv3d(narrow, wide, 1, stride=2, bias=False), nn.BatchNorm3d(wide)
        )
        first = BasicBlock(narrow, wide, Conv3DSimple, 2, shortcut)
    return nn.Sequential(first, BasicBlock(wide, wide, Conv3DSimple))
