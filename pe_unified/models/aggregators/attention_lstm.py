"""Self-attention and a recurrent network over the steps of an exam."""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from pe_unified.models.aggregators.steps import StepBatchNorm, run_packed, zero_padding
from pe_unified.registry import MODELS


@MODELS.register_module()
class AttentionLSTMAggregator(BaseModule):
    """Batch norm, self-attention with residual and layer norm, and a bidirectional LSTM.

    After Hu et al. (https://doi.org/10.1038/s41746-025-01594-2). They classify the exam from the
    last step: ``ExamHead(pool="last")``.

    Args:
        in_channels: channels of a step's features; a multiple of ``heads``.
        heads: attention heads.
        width: channels of each direction of the LSTM.
        layers: number of LSTM layers.
        dropout: probability of dropping an attention weight, and a feature between two layers.
    """

    def __init__(
        self,
        in_channels: int,
        heads: int = 8,
        width: int = 64,
        layers: int = 3,
        dropout: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if in_channels % heads:
            raise ValueError(
                f"heads must divide the channels, got {heads} for {in_channels} channels"
            )
        self.out_channels = 2 * width
        self.step_norm = StepBatchNorm(in_channels)
        self.attention = _SelfAttention(in_channels, heads, dropout)
        self.norm = nn.LayerNorm(in_channels)
        self.lstm = nn.LSTM(
            in_channels,
            width,
            layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
            bidirectional=True,
        )

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """See :class:`~pe_unified.models.protocols.Aggregator`."""
        steps = self.step_norm(zero_padding(features, mask), mask)
        steps = self.norm(steps + self.attention(steps, mask))
        return run_packed(self.lstm, steps, mask)


class _SelfAttention(nn.Module):
    """``torch.nn.MultiheadAttention`` on real steps; exports to ONNX for exams of any length."""

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj = nn.Linear(channels, 3 * channels)
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        by_head = self.in_proj(steps).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(
            *by_head.unbind(0),
            attn_mask=mask[:, None, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(seen.transpose(1, 2).flatten(2))
