"""From the loader's patches and volumes to one batch."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor

from pe_unified.registry import MODELS


@MODELS.register_module()
class PEVolumePreprocessor(BaseDataPreprocessor):
    """Stack all patches of a batch and scale Hounsfield units to 0..1.

    Args:
        hu: the values scaled to 0 and 1; values outside are clipped.
        non_blocking: do not wait for the copy to the device.
    """

    def __init__(self, hu: Sequence[float] = (-100.0, 500.0), non_blocking: bool = True) -> None:
        super().__init__(non_blocking)
        low, high = hu
        if low >= high:
            raise ValueError(
                f"hu gives the HU values that become 0 and 1, lower first; got {tuple(hu)}"
            )
        self.low, self.high = float(low), float(high)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare one batch.

        Args:
            data: ``inputs``: a list of int16 (patches, levels, rows, cols), Hounsfield units;
                ``data_samples``: a list of
                :class:`~pe_unified.datasets.volume_sample.PEVolumeSample`, or absent.
            training: unused; part of mmengine's interface.

        Returns:
            ``inputs``, float32 (n, 1, levels, rows, cols), n: all patches; ``data_samples``.

        Raises:
            ValueError: volumes of different sizes.
        """
        inputs = list(data["inputs"])
        if len({tuple(each.shape[1:]) for each in inputs}) > 1:
            raise ValueError("volumes of a batch differ in size; whole volumes need batch_size=1")
        cast = self.cast_data({**data, "inputs": torch.cat(inputs)[:, None]})
        scaled = (cast["inputs"].float() - self.low) / (self.high - self.low)
        cast["inputs"] = scaled.clamp_(0, 1)
        cast.setdefault("data_samples", None)
        return cast
