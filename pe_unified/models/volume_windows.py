"""Sliding-window inference over a volume of any size."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """Overlapping windows with averaged outputs, by MONAI's sliding-window inference.

    The weight of a voxel rises with its distance from the nearest face of the window, up to
    ``ramp``. The last window along an axis is moved back so that it ends with the volume; a volume
    that is smaller than a window is padded on both sides.

    Attributes:
        size: side of a window, voxels.
        stride: distance from one window to the next, voxels.
        ramp: distance over which the weight rises, voxels.
        at_once: windows in one pass.
    """

    size: int = 128
    stride: int = 96
    ramp: int = 32
    at_once: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.size or self.ramp < 1 or self.at_once < 1:
            raise ValueError(
                "a window's stride is at most its size, ramp and at_once are at least 1; got "
                f"{self}"
            )

    def weights(self) -> Tensor:
        """float32 (size, size, size), above 0, at most 1."""
        place = torch.arange(self.size)
        away = torch.minimum(place, self.size - 1 - place) + 0.5
        along = (away / self.ramp).clamp(max=1)
        return torch.minimum(torch.minimum(along[:, None, None], along[:, None]), along)

    def over(self, volume: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        """The network's output for a whole volume.

        Args:
            volume: float (1, 1, levels, rows, cols); padded with 0.
            network: (n, 1, size, size, size) to (n, channels, size, size, size).

        Returns:
            float32 (channels, levels, rows, cols).
        """
        # Takes seconds to load.
        from monai.inferers.utils import sliding_window_inference

        found = sliding_window_inference(
            volume.float(),
            roi_size=(self.size,) * 3,
            sw_batch_size=self.at_once,
            predictor=network,
            overlap=1 - self.stride / self.size,
            roi_weight_map=self.weights().to(volume.device)[None, None],
        )
        assert isinstance(found, Tensor)
        return found[0]
