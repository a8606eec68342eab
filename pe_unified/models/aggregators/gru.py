"""A gated recurrent network over the steps of an exam."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from pe_unified.models.aggregators.steps import run_packed, with_differences, zero_padding
from pe_unified.registry import MODELS


@MODELS.register_module()
class GRUAggregator(BaseModule):
    """``torch.nn.GRU`` over the real steps: the backward pass starts at an exam's last real step.

    Args:
        in_channels: channels of a step's features.
        width: channels of each direction.
        layers: number of stacked layers.
        bidirectional: read the steps from both ends.
        dropout: probability of dropping a feature between two layers.
        differences: also read the differences to the previous and to the next step; only to the
            previous one if not bidirectional.
    """

    def __init__(
        self,
        in_channels: int,
        width: int = 128,
        layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        differences: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if dropout and layers == 1:
            raise ValueError("dropout acts between layers; with one layer it must be 0")
        self.bidirectional, self.differences = bidirectional, differences
        self.out_channels = width * (2 if bidirectional else 1)
        self.gru = nn.GRU(
            in_channels * (1 if not differences else 3 if bidirectional else 2),
            width,
            layers,
            batch_first=True,
            dropout=dropout,
            bidirectional=bidirectional,
        )

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """See :class:`~pe_unified.models.protocols.Aggregator`."""
        features = zero_padding(features, mask)
        if self.differences:
            features = with_differences(features, mask, later=self.bidirectional)
        return run_packed(self.gru, features, mask)
