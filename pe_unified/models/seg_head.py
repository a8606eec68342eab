"""Segmentation of emboli: a UNet decoder and one logit per pixel."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.structures import PixelData
from torch import Tensor, nn

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.models.geometry import SliceGeometry
from pe_unified.models.losses import binary_cross_entropy, binary_focal_loss, pooled_dice_loss
from pe_unified.models.masks import stacked_masks
from pe_unified.models.unet_decoder import UNetDecoder
from pe_unified.registry import MODELS


@MODELS.register_module()
class PESegHead(BaseModule):
    """UNet decoder, a 1x1 convolution, and Dice with cross-entropy or focal loss.

    Args:
        in_channels, in_strides: the backbone's levels, finest first.
        dice_weight, bce_weight, focal_weight: weights of the three losses; 0 leaves one out.
        positive_weight: weight of embolus pixels in the cross-entropy.
        focal_alpha, focal_gamma: see :func:`~pe_unified.models.losses.binary_focal_loss`.
        threshold: probability above which a pixel is called embolus.
        prior: probability that an untrained head gives every pixel; emboli are rare.
        decoder: further arguments of :class:`~pe_unified.models.unet_decoder.UNetDecoder`
            (channels, out_stride, skip_channels, detail_channels, ...).
    """

    hands_on = {"decoder": UNetDecoder}

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int] = (4, 8, 16, 32),
        dice_weight: float = 1.0,
        bce_weight: float = 1.0,
        focal_weight: float = 0.0,
        positive_weight: float = 1.0,
        focal_alpha: float = 0.75,
        focal_gamma: float = 2.0,
        threshold: float = 0.5,
        prior: float = 0.01,
        decoder: dict[str, Any] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.decoder = UNetDecoder(in_channels, in_strides, **(decoder or {}))
        self.conv_seg = nn.Conv2d(self.decoder.out_channels, 1, 1)
        self.prior = prior
        self._start_at_prior()
        self.weights = {
            "loss_dice": dice_weight,
            "loss_bce": bce_weight,
            "loss_focal": focal_weight,
        }
        if not any(self.weights.values()):
            raise ValueError("dice_weight, bce_weight and focal_weight are all 0: nothing to learn")
        self.positive_weight = positive_weight
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.threshold = threshold

    def _start_at_prior(self) -> None:
        nn.init.normal_(self.conv_seg.weight, std=0.01)
        nn.init.constant_(self.conv_seg.bias, math.log(self.prior / (1 - self.prior)))

    def init_weights(self) -> None:
        super().init_weights()
        self._start_at_prior()

    @property
    def levels_read(self) -> tuple[int, ...]:
        return tuple(range(len(self.decoder.squeeze)))

    @property
    def loss_names(self) -> tuple[str, ...]:
        return tuple(name for name, weight in self.weights.items() if weight)

    def knows(self, sample: PEDataSample) -> bool:
        """Whether the sample carries this head's label."""
        return "gt_sem_seg" in sample

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
        """Losses over all pixels of samples that all carry ``gt_sem_seg``.

        Args:
            features: the backbone's levels.
            samples: one per row of the batch; masks at most as large as ``image``, the rest
                of the padded image counts as background.
            image: (n, channels, rows, cols), the network's input.
        """
        logits = self._full_size(self(features, image), image.shape[-2:])
        target = stacked_masks(samples, image.shape[-2:]).to(logits.device)
        kinds = {
            "loss_dice": lambda: pooled_dice_loss(logits, target),
            "loss_bce": lambda: binary_cross_entropy(logits, target, self.positive_weight),
            "loss_focal": lambda: binary_focal_loss(
                logits, target, self.focal_alpha, self.focal_gamma
            ),
        }
        return {name: self.weights[name] * kinds[name]() for name in self.loss_names}

    def predict(
        self, features: Sequence[Tensor], samples: Sequence[PEDataSample], image: Tensor
    ) -> None:
        """Set ``seg_prob`` and ``pred_sem_seg`` of every sample, in the stored slice."""
        self.set_masks(self(features, image), samples, image.shape[-2:])

    def set_masks(
        self, logits: Tensor, samples: Sequence[PEDataSample], size: Sequence[int]
    ) -> None:
        """What :meth:`predict` sets, from the logits of :meth:`forward`.

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
