"""Interfaces of the parts of a model; n: slices of a batch, unless noted.

``tests/models/part_testers.py`` has a tester for each kind.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from torch import Tensor, nn

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.models.backbones.levels import FeatureInfo


class Levels(Protocol):
    """A network with accessible levels, finest first; encoders may be one."""

    #: The levels of the network, whether it returns them or not.
    feature_info: FeatureInfo

    def level_modules(self) -> list[tuple[nn.Module, ...]]:
        """For each level, the parallel modules whose outputs all later layers read.

        A module's first or only output is (n, channels, ..., rows, cols), (n, ..., rows, cols,
        channels), or tokens (n, cells, channels), with tokens other than cells first.
        """


class Backbone(Levels, Protocol):
    """From slices to four levels."""

    def __call__(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Levels (n, channels, rows, cols), finest first, as ``feature_info`` declares them.

        Args:
            inputs: float (n, channels, rows, cols), of any size.
        """

    def parameters_behind(self, levels: Collection[int]) -> list[nn.Parameter]:
        """Parameters that affect only the given levels."""


class Encoder(Protocol):
    """From steps, slices or chunks of slices, to one vector each."""

    #: Channels of the vector.
    out_channels: int

    def __call__(self, inputs: Tensor) -> Tensor:
        """(n, out_channels).

        Args:
            inputs: float (n, channels, rows, cols), or (n, channels, slices, rows, cols) for an
                encoder of chunks; n: steps, of any exams.
        """


class Aggregator(Protocol):
    """Combines the steps of each exam. Built with ``in_channels``."""

    #: Channels of a step.
    out_channels: int

    def __call__(self, features: Tensor, mask: Tensor) -> Tensor:
        """(n, steps, out_channels); n: exams. The padding never affects real steps.

        Args:
            features: float (n, steps, in_channels).
            mask: bool (n, steps), True where a step is real; real steps come first, and every exam
                has at least one.
        """


class Decoder(Protocol):
    """From levels to one map. Built with ``in_channels`` and ``in_strides`` of the levels."""

    #: Channels of the map.
    out_channels: int
    #: Indices of the levels that it uses; none for a whole network, which reads only the image.
    levels_read: tuple[int, ...]

    def __call__(self, features: Sequence[Tensor], image: Tensor | None = None) -> Tensor:
        """(n, out_channels, rows, cols) at any stride.

        Args:
            features: levels, finest first.
            image: (n, channels, rows, cols), the network's input.
        """


class SupervisedDecoder(Decoder, Protocol):
    """A decoder with side outputs for deep supervision: logits computed before the final map.

    A plain call computes them only if the map is built from them.
    """

    #: Number of side outputs; 0 if deep supervision is off.
    sides: int

    def with_sides(
        self, features: Sequence[Tensor], image: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The map of a plain call and the side outputs: logits (n, 1, rows, cols), any strides."""


class Head(Protocol):
    """From levels to one prediction. Built with the levels' ``in_channels`` and ``in_strides``."""

    #: Keys of the result of ``loss``; the model adds the task's name as a prefix.
    loss_names: tuple[str, ...]
    #: Indices of the levels that it uses.
    levels_read: tuple[int, ...]

    def loss(
        self, features: Sequence[Tensor], samples: Sequence[PEDataSample], image: Tensor
    ) -> dict[str, Tensor]:
        """Losses, scalars, over samples that all have the task's label."""

    def predict(
        self, features: Sequence[Tensor], samples: Sequence[PEDataSample], image: Tensor
    ) -> None:
        """Set the prediction of every sample, in the geometry of the stored slice."""
