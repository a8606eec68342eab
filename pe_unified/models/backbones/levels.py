"""Base classes of backbones: declared levels, freezing, start from pretrained weights.

Every backbone returns its levels as a tuple of (n, channels, rows, cols), finest first.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch import nn

from pe_unified.models.backbones.pretrained import load_pretrained


@dataclass(frozen=True)
class FeatureInfo:
    """The levels of a backbone, finest first.

    Attributes:
        channels: channels of each level.
        strides: input pixels per feature pixel of each level.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]


class StagedNetwork:
    """A stem and stages, usually four, with freezing and a start from pretrained weights.

    ``frozen_stages``: -1 freezes nothing, 0 the stem, k the stem and the first k stages; the number
    of stages freezes the whole backbone. A frozen part has no gradients, and its batch-norm,
    dropout and drop-path stay in evaluation mode through every later ``train()``. ``norm_eval``
    keeps the statistics of every batch-norm fixed while its scale and shift are still trained; it
    has no effect on a backbone without batch-norm.
    """

    frozen_stages: int
    norm_eval: bool
    pretrained: str | None

    def _stages(self) -> list[list[nn.Module]]:
        """Modules of the stem, then of each stage in order."""
        raise NotImplementedError

    def level_modules(self) -> list[tuple[nn.Module, ...]]:
        """See :class:`~pe_unified.models.protocols.Levels`."""
        return [(modules[0],) for modules in self._stages()[1:]]

    def _freeze_stages(self) -> None:
        for modules in self._stages()[: self.frozen_stages + 1]:
            for module in modules:
                module.eval()
                module.requires_grad_(False)

    def _hold_still(self) -> None:
        """Put frozen parts back into evaluation mode after a ``train()``."""
        self._freeze_stages()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def train(self, mode: bool = True):
        super().train(mode)
        self._hold_still()
        return self

    def init_weights(self) -> None:
        first_time = not self.is_init
        super().init_weights()
        if self.pretrained is not None and first_time:
            load_pretrained(self, self.pretrained)


class LevelsBackbone(StagedNetwork):
    """What backbones share apart from their layers."""

    feature_info: FeatureInfo

    def _output_layers(self) -> list[list[nn.Module]]:
        """Layers between each stage and its output, which no later stage sees."""
        return [[] for _ in self.feature_info.channels]

    def _to_next_stage(self, stage: int) -> list[nn.Module]:
        """Layers of a stage that lead to the next one only."""
        return []

    def parameters_behind(self, levels: Collection[int]) -> list[nn.Parameter]:
        """Parameters that affect only the given levels.

        Args:
            levels: indices of levels that are not used.
        """
        count = len(self.feature_info.channels)
        read = [level for level in range(count) if level not in levels]
        deepest = max(read, default=-1)
        modules = [module for stage in self._stages()[deepest + 2 :] for module in stage]
        if not read:
            modules += self._stages()[0]
        elif deepest < count - 1:
            modules += self._to_next_stage(deepest)
        for level in range(deepest):
            if level in levels:
                modules += self._output_layers()[level]
        return [parameter for module in modules for parameter in module.parameters()]


def check_frozen(frozen_stages: int, stages: int = 4) -> int:
    if not -1 <= frozen_stages <= stages:
        raise ValueError(
            f"frozen_stages is -1 (none), 0 (stem) or 1 to {stages} (that many stages), "
            f"got {frozen_stages}"
        )
    return frozen_stages


def refuse_other(name: str, given: Any, only: Any) -> None:
    given = tuple(given) if isinstance(given, list) else given
    if given != only:
        raise ValueError(
            f"{name}={given!r}: this backbone always has {name}={only!r}; "
            f"leave the key out of the config"
        )
