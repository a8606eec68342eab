"""Classification of a slice: embolism or none."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.models.evidence_map import EvidenceMap, pool_evidence
from pe_unified.models.losses import WeightedLosses, binary_cross_entropy, pooled_dice_loss
from pe_unified.models.masks import stacked_masks
from pe_unified.registry import MODELS

_POOLINGS = ("avg", "avg+max")


@MODELS.register_module()
class PEClsHead(BaseModule):
    """Global pooling and one linear layer.

    With ``pool="avg"`` on the last level this equals mmpretrain's ``GlobalAveragePooling`` and
    ``LinearClsHead``. Averaging dilutes an embolus of a few pixels; ``"avg+max"`` appends the
    maximum of every channel, which a small finding can raise by itself. Slice labels alone say
    little about the location: ``evidence_channels`` adds a pooled
    :class:`~pe_unified.models.evidence_map.EvidenceMap`. If ``mask_weight`` is above 0, it also
    learns from the masks of samples that have one.

    Args:
        in_channels: channels of the backbone's levels, finest first.
        in_strides: their strides; unused, part of every head's interface.
        levels: indices of the pooled levels, e.g. ``(-1,)`` or ``(-2, -1)``.
        pool: ``"avg"`` or ``"avg+max"``.
        normalise: shift and scale each pooled vector to mean 0 and length 1, like layer
            normalisation except for the length. The linear layer sums thousands of channels:
            without scaling, one step of Adam changes its logits by whole units, and its gradient
            dominates those of other tasks.
        dropout: probability of dropping a pooled feature.
        num_classes: classes of the softmax; index 1 is embolism.
        losses: configs, see :class:`~pe_unified.models.losses.WeightedLosses`.
        evidence_channels: width of the evidence map; 0 for none.
        mask_weight: weight of the Dice and cross-entropy between map and masks, cell by cell.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int] | None = None,
        levels: Sequence[int] = (-1,),
        pool: str = "avg",
        normalise: bool = False,
        dropout: float = 0.0,
        num_classes: int = 2,
        losses: Sequence[Mapping[str, Any]] = (dict(type="pe_unified.SliceCrossEntropyLoss"),),
        evidence_channels: int = 0,
        mask_weight: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Normal", layer="Linear", std=0.01))
        if pool not in _POOLINGS:
            raise ValueError(f"pool is one of {_POOLINGS}, got {pool!r}")
        if mask_weight and not evidence_channels:
            raise ValueError("mask_weight trains the evidence map; set evidence_channels too")
        self.levels = tuple(levels)
        self.num_levels = len(in_channels)
        self.with_max = pool == "avg+max"
        self.normalise = normalise
        poolings = 2 if self.with_max else 1
        #: Width of every pooled vector.
        self.widths = [in_channels[level] for level in self.levels for _ in range(poolings)]
        width = sum(self.widths)
        self.evidence = EvidenceMap(in_channels, evidence_channels) if evidence_channels else None
        width += 2 if self.evidence else 0
        self.mask_weight = mask_weight
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(width, num_classes)
        self.losses = WeightedLosses(losses)

    @property
    def levels_read(self) -> tuple[int, ...]:
        if self.evidence is not None:
            return tuple(range(self.num_levels))
        return tuple(level % self.num_levels for level in self.levels)

    @property
    def loss_names(self) -> tuple[str, ...]:
        return (*self.losses, *(("loss_evidence",) if self.mask_weight else ()))

    def forward(self, features: Sequence[Tensor], image: Tensor | None = None) -> Tensor:
        """Logits, float32 (n, classes), from the backbone's levels."""
        return self._logits(features, self._evidence(features))

    def _evidence(self, features: Sequence[Tensor]) -> Tensor | None:
        return None if self.evidence is None else self.evidence(features)

    def _logits(self, features: Sequence[Tensor], evidence: Tensor | None) -> Tensor:
        pooled = []
        for level in self.levels:
            feature = features[level]
            pooled.append(F.adaptive_avg_pool2d(feature, 1).flatten(1))
            if self.with_max:
                pooled.append(feature.amax(dim=(2, 3)))
        if self.normalise:
            # Not the tensor's own shape, which ONNX does not support here.
            pairs = zip(pooled, self.widths, strict=True)
            pooled = [F.layer_norm(each, (width,)) / width**0.5 for each, width in pairs]
        if evidence is not None:
            pooled.append(pool_evidence(evidence))
        return self.fc(self.dropout(torch.cat(pooled, dim=1))).float()

    def loss(
        self,
        features: Sequence[Tensor],
        samples: Sequence[PEDataSample],
        image: Tensor | None = None,
    ) -> dict[str, Tensor]:
        evidence = self._evidence(features)
        logits = self._logits(features, evidence)
        label = torch.cat([sample.gt_label for sample in samples]).to(logits.device)
        losses = self.losses(logits, label)
        if self.mask_weight:
            losses["loss_evidence"] = self.mask_weight * _mask_loss(evidence, samples, image)
        return losses

    def predict(
        self,
        features: Sequence[Tensor],
        samples: Sequence[PEDataSample],
        image: Tensor | None = None,
    ) -> None:
        """Set ``pred_score`` of every sample: float32 (classes,), index 1 is embolism."""
        self.set_scores(self(features), samples)

    @staticmethod
    def set_scores(logits: Tensor, samples: Sequence[PEDataSample]) -> None:
        """Set the results of :meth:`predict` from the logits of :meth:`forward`."""
        for sample, score in zip(samples, logits.softmax(dim=1)):
            sample.set_field(score, "pred_score")


def _mask_loss(evidence: Tensor, samples: Sequence[PEDataSample], image: Tensor) -> Tensor:
    """Dice and cross-entropy of map and masks: a cell with any embolus pixel is positive."""
    known = [i for i, sample in enumerate(samples) if "gt_sem_seg" in sample]
    if not known:
        return evidence.sum() * 0.0
    masks = stacked_masks([samples[i] for i in known], image.shape[-2:]).to(evidence.device)
    cells = F.adaptive_max_pool2d(masks, evidence.shape[-2:])
    return pooled_dice_loss(evidence[known], cells) + binary_cross_entropy(evidence[known], cells)
