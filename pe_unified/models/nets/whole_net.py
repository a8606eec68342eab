"""What whole nets share."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor


class WholeNet(BaseModule):
    """A net that stands in the place of a decoder and reads the image alone.

    It takes whatever levels the backbone declares and uses none, so it works on
    :class:`~pe_unified.models.backbones.none.NoBackbone` and beside a backbone that other heads
    use. A subclass sets ``out_channels`` and computes :meth:`maps`.
    """

    levels_read: tuple[int, ...] = ()
    out_channels: int
    #: See :class:`~pe_unified.models.protocols.SupervisedDecoder`.
    sides = 0

    def maps(self, image: Tensor) -> list[Tensor]:
        """The map, (n, out_channels, rows, cols), then those that side outputs are made of."""
        raise NotImplementedError

    def forward(self, features: Sequence[Tensor], image: Tensor) -> Tensor:
        """(n, out_channels, rows, cols) at whatever stride."""
        return self.maps(image)[0]
