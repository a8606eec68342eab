"""A temporal convolutional network over the steps of an exam."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from pe_unified.models.aggregators.steps import StepBatchNorm, with_differences, zero_padding
from pe_unified.registry import MODELS


@MODELS.register_module()
class TCNAggregator(BaseModule):
    """Residual blocks of dilated convolutions along the steps.

    A block applies a weight-normalised convolution, batch norm, ReLU and dropout twice and adds the
    result to its input (Bai et al., https://arxiv.org/abs/1803.01271; batch norm as in Ma et al.,
    https://doi.org/10.1038/s41598-022-16976-9). With the default settings, a step sees six steps on
    each side, plus one through the differences; a causal one sees twelve steps back, plus one.

    Args:
        in_channels: channels of a step's features.
        width: channels of every block.
        kernel: steps that a convolution covers; odd unless causal.
        dilations: one per block, in order.
        dropout: probability of dropping a feature, after each convolution.
        causal: a step sees itself and earlier ones only.
        differences: also read the differences to the previous and to the next step; only to the
            previous one if causal.
    """

    def __init__(
        self,
        in_channels: int,
        width: int = 128,
        kernel: int = 3,
        dilations: Sequence[int] = (1, 2),
        dropout: float = 0.2,
        causal: bool = False,
        differences: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not causal and kernel % 2 == 0:
            raise ValueError(f"kernel is odd unless causal, got {kernel}")
        self.causal, self.differences = causal, differences
        self.out_channels = width
        read = in_channels * (1 if not differences else 2 if causal else 3)
        self.blocks = nn.ModuleList(
            _Block(width if index else read, width, kernel, dilation, dropout, causal)
            for index, dilation in enumerate(dilations)
        )

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """See :class:`~pe_unified.models.protocols.Aggregator`."""
        features = zero_padding(features, mask)
        if self.differences:
            features = with_differences(features, mask, later=not self.causal)
        for block in self.blocks:
            features = zero_padding(block(features, mask), mask)
        return features


class _Block(nn.Module):
    def __init__(
        self,
        in_channels: int,
        width: int,
        kernel: int,
        dilation: int,
        dropout: float,
        causal: bool,
    ) -> None:
        super().__init__()
        reach = (kernel - 1) * dilation
        self.margins = (reach, 0) if causal else (reach // 2, reach // 2)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(channels, width, kernel, dilation=dilation, bias=False))
            for channels in (in_channels, width)
        )
        self.norms = nn.ModuleList(StepBatchNorm(width) for _ in self.convs)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = nn.Linear(in_channels, width) if in_channels != width else nn.Identity()

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        out = features
        for conv, norm in zip(self.convs, self.norms):
            padded = F.pad(zero_padding(out, mask), (0, 0, *self.margins))
            out = conv(padded.transpose(1, 2)).transpose(1, 2)
            out = self.dropout(norm(out, mask).relu())
        return (self.shortcut(features) + out).relu()
