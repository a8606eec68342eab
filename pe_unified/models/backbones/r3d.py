"""ResNet of chunks of slices, torchvision's, without its classifier."""

from contextlib import nullcontext
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.models.video import r3d_18

from pe_unified.models.backbones.levels import StagedNetwork, check_frozen
from pe_unified.registry import MODELS

_PARTS = ("stem", "layer1", "layer2", "layer3", "layer4")


@MODELS.register_module()
class R3D18Encoder(StagedNetwork, BaseModule):
    """ResNet-18 with 3D convolutions (https://arxiv.org/abs/1711.11248), torchvision's.

    It reads chunks, float (n, channels, slices, rows, cols), and gives 512 features of each: the
    average over the last stage. On a CPU it computes in float32 whatever the precision: in bfloat16
    some gradients of 3D convolutions are not finite there (seen with torch 2.13 and AVX-512).

    Args:
        in_channels: channels of the input; pretrained weights are spread over them.
        frozen_stages, norm_eval: see
            :class:`~pe_unified.models.backbones.levels.StagedNetwork`.
        pretrained: None, ``"torchvision://r3d_18"`` (Kinetics-400), a URL, or a file; see
            :func:`~pe_unified.models.backbones.pretrained.load_pretrained`.
    """

    out_channels = 512

    def __init__(
        self,
        in_channels: int = 3,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        pretrained: str | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.frozen_stages, self.norm_eval = check_frozen(frozen_stages), norm_eval
        self.pretrained = pretrained
        net = r3d_18()
        if in_channels != 3:
            first = net.stem[0]
            sizes = (first.kernel_size, first.stride, first.padding)
            net.stem[0] = nn.Conv3d(in_channels, first.out_channels, *sizes, bias=False)
            nn.init.kaiming_normal_(net.stem[0].weight, mode="fan_out", nonlinearity="relu")
        for name in _PARTS:
            self.add_module(name, net.get_submodule(name))
        self._freeze_stages()

    def _stages(self) -> list[list[nn.Module]]:
        return [[self.get_submodule(name)] for name in _PARTS]

    def train(self, mode: bool = True) -> "R3D18Encoder":
        super().train(mode)
        self._hold_still()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """See :class:`~pe_unified.models.protocols.Encoder`."""
        on_cpu = inputs.device.type == "cpu"
        with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
            for (stage,) in self._stages():
                inputs = stage(inputs)
            return inputs.mean(dim=(2, 3, 4))
