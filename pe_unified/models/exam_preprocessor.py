"""From the loader's exams of different lengths to one batch."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from pe_unified.models.data_preprocessor import IMAGENET_MEAN, IMAGENET_STD
from pe_unified.registry import MODELS


@MODELS.register_module()
class PEExamPreprocessor(BaseDataPreprocessor):
    """Pad exams to the longest one, move them to the device and normalise images.

    Args:
        mean, std: per channel, in grey levels 0..255; the defaults are ImageNet's. Features are not
            normalised.
        non_blocking: do not wait for the copy to the device.
    """

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking)
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(
                f"mean and std need one entry per channel, std positive; got {mean} and {std}"
            )
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare one batch; n: exams.

        Args:
            data: ``inputs``: a list of (steps, channels, ..., rows, cols) uint8 tensors, in grey
                levels, or of (steps, width) features; ``data_samples``: a list of
                :class:`~pe_unified.datasets.exam_sample.PEExamSample`, or absent.
            training: unused; part of mmengine's interface.

        Returns:
            ``inputs``, float32 (n, steps, ...), zeros in the padding; ``mask``, bool (n, steps),
            True where a step is real; ``data_samples``.
        """
        exams = list(data["inputs"])
        lengths = torch.tensor([len(exam) for exam in exams])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        batch = torch.nn.utils.rnn.pad_sequence(exams, batch_first=True)
        cast = self.cast_data({**data, "inputs": batch, "mask": mask})
        cast["inputs"] = self._normalised(cast["inputs"], cast["mask"])
        cast.setdefault("data_samples", None)
        return cast

    def _normalised(self, batch: Tensor, mask: Tensor) -> Tensor:
        if batch.ndim == 3:
            return batch.float()
        if batch.shape[2] != len(self.mean):
            raise ValueError(
                f"exams of {batch.shape[2]} channels, but mean and std of {len(self.mean)}: the "
                "pipeline's windows and the preprocessor must agree"
            )
        shape = (1, 1, -1, *(1,) * (batch.ndim - 3))
        batch = (batch.float() - self.mean.view(shape)) / self.std.view(shape)
        return batch * mask.view(*mask.shape, *(1,) * (batch.ndim - 2))
