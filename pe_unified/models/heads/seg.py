"""Segmentation of emboli: a decoder and one logit per pixel."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.structures import PixelData
from torch import Tensor

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.models.logit_conv import LogitConv
from pe_unified.models.losses import WeightedLosses
from pe_unified.models.masks import stacked_masks
from pe_unified.models.slice_geometry import SliceGeometry
from pe_unified.registry import MODELS


@MODELS.register_module()
class PESegHead(BaseModule):
    """A decoder, a 1x1 convolution, and any pixel losses.

    Args:
        in_channels, in_strides: the backbone's levels, finest first.
        decoder: config of the decoder; without ``type``, a
            :class:`~pe_unified.models.decoders.unet.UNetDecoder`.
        losses: configs, see :class:`~pe_unified.models.losses.WeightedLosses`.
        threshold: probability above which a pixel counts as embolus.
        prior: probability that an untrained head gives every pixel; emboli are rare.
        side_weights: weights of the losses of a decoder's side outputs, one for all or one for
            each; no effect on a decoder without side outputs.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int] = (4, 8, 16, 32),
        decoder: Mapping[str, Any] | None = None,
        losses: Sequence[Mapping[str, Any]] = (
            dict(type="pe_unified.PooledDiceLoss"),
            dict(type="pe_unified.PixelCrossEntropyLoss"),
        ),
        threshold: float = 0.5,
        prior: float = 0.01,
        side_weights: float | Sequence[float] = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        levels = {"in_channels": in_channels, "in_strides": in_strides}
        self.decoder = MODELS.build({"type": "pe_unified.UNetDecoder", **levels, **(decoder or {})})
        self.conv_seg = LogitConv(self.decoder.out_channels, prior=prior)
        self.losses = WeightedLosses(losses)
        self.threshold = threshold
        self.side_weights = _one_each(side_weights, getattr(self.decoder, "sides", 0))

    @property
    def levels_read(self) -> tuple[int, ...]:
        return self.decoder.levels_read

    @property
    def loss_names(self) -> tuple[str, ...]:
        sides = [_of_sides(name) for name in self.losses] if self.side_weights else []
        return (*self.losses, *sides)

    def forward(self, features: Sequence[Tensor], image: Tensor | None = None) -> Tensor:
        """Logits (n, 1, rows, cols) at the decoder's ``out_stride``."""
        return self.conv_seg(self.decoder(features, image))

    def _full_size(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        logits = logits.float()
        if tuple(logits.shape[-2:]) == tuple(size):
            return logits
        return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)

    def loss(
        self, features: Sequence[Tensor], samples: Sequence[PEDataSample], image: Tensor
    ) -> dict[str, Tensor]:
        """Losses over all pixels of samples that all have ``gt_sem_seg``.

        The weighted losses of the side outputs are summed under separate names (Lee et al.,
        deeply-supervised nets, https://arxiv.org/abs/1409.5185).

        Args:
            features: the backbone's levels.
            samples: one per row of the batch; masks are at most as large as ``image``, and the
                padding counts as background.
            image: (n, channels, rows, cols), the network's input.
        """
        size = image.shape[-2:]
        target = stacked_masks(samples, size).to(image.device)
        if not self.side_weights:
            return self.losses(self._full_size(self(features, image), size), target)
        decoded, sides = self.decoder.with_sides(features, image)
        losses = self.losses(self._full_size(self.conv_seg(decoded), size), target)
        found = [self.losses(self._full_size(side, size), target) for side in sides]
        for name in self.losses:
            weighted = zip(self.side_weights, found, strict=True)
            losses[_of_sides(name)] = sum(weight * each[name] for weight, each in weighted)
        return losses

    def predict(
        self, features: Sequence[Tensor], samples: Sequence[PEDataSample], image: Tensor
    ) -> None:
        """Set ``seg_prob`` and ``pred_sem_seg`` of every sample, in the stored slice."""
        self.set_masks(self(features, image), samples, image.shape[-2:])

    def set_masks(
        self, logits: Tensor, samples: Sequence[PEDataSample], size: Sequence[int]
    ) -> None:
        """Set the results of :meth:`predict` from the logits of :meth:`forward`.

        Args:
            logits: (n, 1, rows, cols) at the decoder's ``out_stride``.
            samples: one per row.
            size: (rows, cols) of the network's input.
        """
        logits = self._full_size(logits, size)
        for sample, probability in zip(samples, logits.sigmoid()):
            in_slice = SliceGeometry.of(sample).map_to_slice(probability)
            mask = (in_slice > self.threshold).to(torch.uint8)
            sample.set_field(PixelData(data=in_slice), "seg_prob")
            sample.set_field(PixelData(data=mask), "pred_sem_seg")


def _one_each(weights: float | Sequence[float], sides: int) -> tuple[float, ...]:
    """The weight of every side output."""
    if isinstance(weights, int | float):
        return (float(weights),) * sides
    if sides and len(weights) != sides:
        raise ValueError(f"side_weights: {len(weights)} for a decoder with {sides} side outputs")
    return tuple(weights[:sides])


def _of_sides(name: str) -> str:
    return f"{name}_sides"
