"""Base class of whole networks."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor


class WholeNet(BaseModule):
    """A network that takes the place of a decoder and reads only the image.

    It accepts any levels of a backbone and uses none, so it works with
    :class:`~pe_unified.models.backbones.none.NoBackbone` and with a backbone that other heads use.
    A subclass sets ``out_channels`` and computes :meth:`maps`.
    """

    levels_read: tuple[int, ...] = ()
    out_channels: int
    #: See :class:`~pe_unified.models.protocols.SupervisedDecoder`.
    sides = 0

    def maps(self, image: Tensor) -> list[Tensor]:
        """The map, (n, out_channels, rows, cols), then the maps for side outputs."""
        raise NotImplementedError

    def forward(self, features: Sequence[Tensor], image: Tensor) -> Tensor:
        """(n, out_channels, rows, cols) at any stride."""
        return self.maps(image)[0]
