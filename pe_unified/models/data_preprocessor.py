"""From the loader's uint8 slices to the network's normalised batch."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from pe_unified.registry import MODELS

#: Of the red, green and blue channels, in grey levels 0..255.
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@MODELS.register_module()
class PEDataPreprocessor(BaseDataPreprocessor):
    """Stack, pad, move to the device and normalise.

    Slices are sent as uint8 and become float only on the device. Padding is added on the right and
    at the bottom, so boxes and masks keep their position; it is black by default, because the CT is
    surrounded by air.

    Args:
        mean, std: per channel, in grey levels 0..255; the defaults are ImageNet's.
        pad_divisor: rows and columns are padded to a multiple of this, the coarsest stride.
        pad_value: grey level of the padding.
        channels_last: memory format of the batch; the model follows it.
        non_blocking: do not wait for the copy to the device.
    """

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        pad_divisor: int = 32,
        pad_value: int = 0,
        channels_last: bool = False,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking)
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(
                f"mean and std need one entry per channel, std positive; got {mean} and {std}"
            )
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.pad_divisor = pad_divisor
        self.pad_value = pad_value
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare one batch.

        Args:
            data: ``inputs``: a list of (channels, rows, cols) tensors, uint8 or float, in grey
                levels, or one tensor (n, channels, rows, cols); ``data_samples``: a list of
                :class:`~pe_unified.datasets.data_sample.PEDataSample`, or absent. Other keys
                pass through.
            training: unused; part of mmengine's interface.

        Returns:
            The same keys; ``inputs`` is float32 (n, channels, rows, cols), and every sample's
            metainfo has ``img_shape``, ``pad_shape`` and ``batch_input_shape``, (rows, cols).
        """
        slices = list(data["inputs"])
        channels = self.mean.shape[1]
        for index, image in enumerate(slices):
            if image.ndim != 3 or image.shape[0] != channels:
                raise ValueError(
                    f"input {index} of the batch has shape {tuple(image.shape)}, expected "
                    f"({channels}, rows, cols): the pipeline's windows and the "
                    f"preprocessor's mean must agree on the channels"
                )
        sizes = [tuple(image.shape[-2:]) for image in slices]
        batch_shape = tuple(self.padded(max(side)) for side in zip(*sizes))
        padded = [
            F.pad(
                image,
                (0, batch_shape[1] - size[1], 0, batch_shape[0] - size[0]),
                value=self.pad_value,
            )
            for image, size in zip(slices, sizes)
        ]
        cast = self.cast_data({**data, "inputs": torch.stack(padded)})
        cast["inputs"] = self._normalise(cast["inputs"])
        cast.setdefault("data_samples", None)
        for sample, size in zip(cast["data_samples"] or (), sizes):
            sample.set_metainfo(
                {"img_shape": size, "pad_shape": batch_shape, "batch_input_shape": batch_shape}
            )
        return cast

    def padded(self, side: int) -> int:
        """Number of rows or columns after padding."""
        return -(-side // self.pad_divisor) * self.pad_divisor

    def _normalise(self, batch: Tensor) -> Tensor:
        batch = batch.to(torch.float32, memory_format=self.memory_format, copy=True)
        return batch.sub_(self.mean).div_(self.std)
