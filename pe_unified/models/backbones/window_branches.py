"""A separate network for each window."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from pe_unified.models.backbones.levels import FeatureInfo
from pe_unified.registry import MODELS

#: Indices in a branch: the ReLU after each convolution, and the residual blocks.
_LAST_OF_LEVEL = (2, 5, 8, 9, 10)


@MODELS.register_module()
class WindowBranches(BaseModule):
    """Convolutional branches without shared weights, one per window, joined by a linear layer.

    A branch has three convolutions (7x7, 5x5 and 3x3) and two residual blocks, all of stride 2 and
    with batch norm, then an average over the image and two linear layers. It follows a description
    of code of 2025 for three windows with 59.7 million parameters; with the default settings this
    network has 59.74 million.

    Args:
        in_channels: windows of the input, with one branch each.
        widths: channels of the three convolutions and the two residual blocks.
        out_channels: channels of the linear layers.
    """

    def __init__(
        self,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        out_channels: int = 512,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.out_channels = out_channels
        strides = tuple(2**level for level in range(1, len(widths) + 1))
        self.feature_info = FeatureInfo(tuple(widths), strides)
        self.branches = nn.ModuleList(_branch(widths, out_channels) for _ in range(in_channels))
        self.join = nn.Linear(in_channels * out_channels, out_channels)

    def level_modules(self) -> list[tuple[nn.Module, ...]]:
        """See :class:`~pe_unified.models.protocols.Levels`."""
        return [tuple(branch[last] for branch in self.branches) for last in _LAST_OF_LEVEL]

    def forward(self, inputs: Tensor) -> Tensor:
        """See :class:`~pe_unified.models.protocols.Encoder`; inputs (n, windows, rows, cols)."""
        windows = inputs.split(1, dim=1)
        found = [branch(window) for branch, window in zip(self.branches, windows, strict=True)]
        return self.join(torch.cat(found, dim=1)).relu()


def _branch(widths: Sequence[int], out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, given, side in zip(widths[:3], (1, *widths[:2]), (7, 5, 3), strict=True):
        layers += [
            nn.Conv2d(given, width, side, stride=2, padding=side // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    for width, given in zip(widths[3:], widths[2:4], strict=True):
        shortcut = nn.Sequential(
            nn.Conv2d(given, width, 1, stride=2, bias=False), nn.BatchNorm2d(width)
        )
        layers.append(BasicBlock(given, width, stride=2, downsample=shortcut))
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], out_channels),
        nn.ReLU(),
        nn.Linear(out_channels, out_channels),
        nn.ReLU(),
    )
