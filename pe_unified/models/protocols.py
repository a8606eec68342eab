"""What the parts of a model declare, take and give; n: slices of a batch, or as said.

``tests/models/part_testers.py`` has a tester for each kind.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from torch import Tensor, nn

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.models.backbones.levels import FeatureInfo


class Levels(Protocol):
    """A network whose levels can be looked into, finest first; encoders may be one."""

    #: The levels that it has, whether it gives them or not.
    feature_info: FeatureInfo

    def level_modules(self) -> list[tuple[nn.Module, ...]]:
        """Of each level, the modules whose outputs, side by side, are all that follows sees of it.

        A module's first or only output is (n, channels, ..., rows, cols), (n, ..., rows, cols,
        channels), or tokens (n, cells, channels), of which others than cells stand in front.
        """


class Backbone(Levels, Protocol):
    """From slices to four levels."""

    def __call__(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Levels (n, channels, rows, cols), finest first, as ``feature_info`` declares them.

        Args:
            inputs: float (n, channels, rows, cols), of any size.
        """

    def parameters_behind(self, levels: Collection[int]) -> list[nn.Parameter]:
        """Parameters that no output but the given levels depends on."""


class Encoder(Protocol):
    """From steps, slices or chunks of slices, to one vector each."""

    #: Channels of the vector.
    out_channels: int

    def __call__(self, inputs: Tensor) -> Tensor:
        """(n, out_channels).

        Args:
            inputs: float (n, channels, rows, cols), or (n, channels, slices, rows, cols) of an
                encoder of chunks; n: steps, of whatever exams.
        """


class Aggregator(Protocol):
    """From the steps of exams to steps that know of each other. Built with ``in_channels``."""

    #: Channels of a step.
    out_channels: int

    def __call__(self, features: Tensor, mask: Tensor) -> Tensor:
        """(n, steps, out_channels); n: exams. The padding never bears on real steps.

        Args:
            features: float (n, steps, in_channels).
            mask: bool (n, steps), True where a step is real; real steps come first, and every exam
                has one.
        """


class Decoder(Protocol):
    """From levels to one map. Built with ``in_channels`` and ``in_strides`` of the levels."""

    #: Channels of the map.
    out_channels: int
    #: Indices of the levels that it uses; none of a whole net, which reads the image alone.
    levels_read: tuple[int, ...]

    def __call__(self, features: Sequence[Tensor], image: Tensor | None = None) -> Tensor:
        """(n, out_channels, rows, cols) at whatever stride.

        Args:
            features: levels, finest first.
            image: (n, channels, rows, cols), the network's input.
        """


class SupervisedDecoder(Decoder, Protocol):
    """A decoder that training looks into: it has logits of its own on the way to the map.

    A call computes none of them, unless the map is made of them.
    """

    #: How many; 0 where deep supervision is off.
    sides: int

    def with_sides(
        self, features: Sequence[Tensor], image: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The map of a call, and the side outputs: logits (n, 1, rows, cols), of any strides."""


class Head(Protocol):
    """From levels to one answer. Built with ``in_channels`` and ``in_strides`` of the levels."""

    #: Keys of what ``loss`` gives; the model puts the task's name in front.
    loss_names: tuple[str, ...]
    #: Indices of the levels that it uses.
    levels_read: tuple[int, ...]

    def loss(
        self, features: Sequence[Tensor], samples: Sequence[PEDataSample], image: Tensor
    ) -> dict[str, Tensor]:
        """Losses, scalars, over samples that all carry the task's label."""

    def predict(
        self, features: Sequence[Tensor], samples: Sequence[PEDataSample], image: Tensor
    ) -> None:
        """Set the prediction of every sample, in the geometry of the stored slice."""
