"""Batches of exams with different numbers of steps; n: exams.

Masks are bool (n, steps), True where a step is real; real steps come first.
"""

from collections.abc import Sequence

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.models.protocols import Encoder

#: Steps in one pass without training: an exam may have a thousand.
STEPS_AT_ONCE = 32


def encode_steps(
    encoder: Encoder, inputs: Tensor, mask: Tensor, at_once: int | None = None
) -> Tensor:
    """Features of every step; zeros for padding, which the encoder does not read.

    Args:
        inputs: float (n, steps, ...).
        at_once: steps in one pass, which limits the memory if no gradients are kept; None for all
            of them, as batch statistics require.

    Returns:
        float (n, steps, channels).
    """
    real = inputs[mask]
    rows = torch.cat([encoder(part) for part in real.split(at_once)]) if at_once else encoder(real)
    return rows.new_zeros(*mask.shape, rows.shape[1]).masked_scatter(mask.unsqueeze(-1), rows)


def stacked_exam_targets(samples: Sequence[BaseDataElement], device: torch.device) -> Tensor:
    """``gt_exam`` of every sample, float32 (n, 10); NaN where a sample has none."""
    targets = torch.full((len(samples), len(EXAM_TARGETS)), torch.nan, device=device)
    for row, sample in zip(targets, samples):
        if "gt_exam" in sample:
            row[:] = sample.gt_exam
    return targets


def stacked_step_targets(samples: Sequence[BaseDataElement], mask: Tensor) -> Tensor:
    """``gt_steps`` of every sample, float32 (n, steps); NaN for padding and unlabelled samples."""
    targets = torch.full(mask.shape, torch.nan, device=mask.device)
    for row, sample in zip(targets, samples):
        if "gt_steps" in sample:
            row[: len(sample.gt_steps)] = sample.gt_steps
    return targets.masked_fill(~mask, torch.nan)
