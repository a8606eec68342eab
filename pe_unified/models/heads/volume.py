"""The losses of a volume's map; the network itself computes the map."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from pe_unified.models.losses import WeightedLosses
from pe_unified.registry import MODELS


@MODELS.register_module()
class VolumeHead(BaseModule):
    """The losses of one map, of emboli or of arteries.

    Args:
        losses: configs, see :class:`~pe_unified.models.losses.WeightedLosses`; each is called with
            logits and target, float (n, 1, levels, rows, cols), of the patches with known label.
    """

    def __init__(
        self,
        losses: Sequence[Mapping[str, Any]] = (dict(type="pe_unified.VolumeTverskyLoss"),),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.losses = WeightedLosses(losses)

    def loss(self, logits: Tensor, target: Tensor | None) -> dict[str, Tensor]:
        """Losses, scalars, by name; 0, with a gradient, if no label is known.

        Args:
            logits: (n, 1, levels, rows, cols).
            target: of the same shape, 0 or 1; None if no label is known.
        """
        if target is None:
            return dict.fromkeys(self.losses, logits.sum() * 0.0)
        return self.losses(logits, target)
