"""Masks of samples as one tensor."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pe_unified.datasets.data_sample import PEDataSample


def stacked_masks(samples: Sequence[PEDataSample], size: Sequence[int]) -> Tensor:
    """The masks of samples that all have ``gt_sem_seg``; the padding is background.

    Args:
        size: (rows, cols) of the padded input.

    Returns:
        float32 (n, 1, rows, cols).

    Raises:
        ValueError: a mask is larger than the input.
    """
    masks = []
    for sample in samples:
        mask = sample.gt_sem_seg.data
        rows, cols = mask.shape[-2:]
        if rows > size[0] or cols > size[1]:
            raise ValueError(
                f"mask of {rows} x {cols} pixels for an input of {size[0]} x {size[1]}: "
                f"the pipeline must resize and crop masks with their slices"
            )
        masks.append(F.pad(mask.float(), (0, size[1] - cols, 0, size[0] - rows)))
    return torch.stack(masks)
