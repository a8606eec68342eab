"""Shifted-window attention of Swin, on mmpretrain's weights, with torchvision's geometry."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.models.utils.attention import ShiftWindowMSA
from torch import Tensor


class ShiftedWindowAttention(BaseModule):
    """Attention in shifted windows for maps of any size.

    Takes over the layers of mmpretrain's ``ShiftWindowMSA`` with their tensor names. Two things
    differ. An axis that fits into one window is not shifted, as in the original and in torchvision;
    mmpretrain splits such a map into regions that do not see each other. The mask of a map size is
    computed only once.
    """

    def __init__(self, layers: ShiftWindowMSA) -> None:
        super().__init__()
        self.w_msa = layers.w_msa
        self.drop = layers.drop
        self.window_size: int = layers.window_size
        self.shift_size: int = layers.shift_size

    def forward(self, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """``query``: (n, rows * cols, channels), ``hw_shape``: (rows, cols); same shape out."""
        # Plain integers, and no batch size: a traced graph then accepts batches of any size.
        rows, cols = (int(side) for side in hw_shape)
        channels, window = int(query.shape[-1]), self.window_size
        padded_rows, padded_cols = (side + -side % window for side in (rows, cols))
        query = query.view(-1, rows, cols, channels)
        query = F.pad(query, (0, 0, 0, padded_cols - cols, 0, padded_rows - rows))
        shift = tuple(
            self.shift_size if side > window else 0 for side in (padded_rows, padded_cols)
        )
        if any(shift):
            query = query.roll((-shift[0], -shift[1]), dims=(1, 2))
            mask = _shift_mask(padded_rows, padded_cols, window, shift, query.device)
        else:
            mask = None
        across = (padded_rows // window, padded_cols // window)
        windows = query.view(-1, across[0], window, across[1], window, channels)
        windows = windows.permute(0, 1, 3, 2, 4, 5).reshape(-1, window**2, channels)
        windows = self.w_msa(windows, mask=mask).view(-1, *across, window, window, channels)
        out = windows.permute(0, 1, 3, 2, 4, 5).reshape(-1, padded_rows, padded_cols, channels)
        if any(shift):
            out = out.roll(shift, dims=(1, 2))
        return self.drop(out[:, :rows, :cols].reshape(-1, rows * cols, channels))


@lru_cache(maxsize=64)
def _shift_mask(
    rows: int, cols: int, window: int, shift: tuple[int, int], device: torch.device
) -> Tensor:
    """float32 (windows, window**2, window**2): -100 between patches joined only by the roll."""
    with torch.inference_mode(False):
        region = _bands(rows, window, shift[0])[:, None] * 3 + _bands(cols, window, shift[1])
        region = ShiftWindowMSA.window_partition(region[None, :, :, None], window)
        region = region.view(-1, window**2)
        apart = region[:, :, None] != region[:, None, :]
        return apart.to(device=device, dtype=torch.float32).mul_(-100.0)


def _bands(side: int, window: int, shift: int) -> Tensor:
    """int64 (side,): 0, 1 and 2 for the parts of an axis that a shift separates."""
    position = torch.arange(side)
    if shift == 0:
        return torch.zeros_like(position)
    return (position >= side - window).long() + (position >= side - shift).long()
