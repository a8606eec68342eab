"""What every backbone does: declare its levels, freeze, start from given weights.

All give their levels as a tuple of (n, channels, rows, cols), finest first.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch import nn

from pe_unified.models.backbones.pretrained import load_pretrained


@dataclass(frozen=True)
class FeatureInfo:
    """What a backbone gives, finest level first.

    Attributes:
        channels: channels of each level.
        strides: input pixels per feature pixel of each level.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]


class StagedNetwork:
    """A stem and stages, mostly four: freezing, and the start from given weights.

    ``frozen_stages``: -1 freezes nothing, 0 the stem, k the stem and the first k stages, all of
    them the whole backbone. A frozen part has no gradients, and its batch-norm statistics, dropout
    and drop-path stand still through every later ``train()``. ``norm_eval`` keeps the
    statistics of every batch-norm still while its scale and shift go on learning; a backbone
    without batch-norm is not touched by it.
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
        """What no ``train()`` may set going, after one has."""
        self._freeze_stages()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def train(self, mode: bool = True):
        super().train(mode)
        return self

    def init_weights(self) -> None:
        first_time = not self.is_init
        super().init_weights()
        if self.pretrained is not None and first_time:
            load_pretrained(self, self.pretrained)


class LevelsBackbone(StagedNetwork):
    """What backbones share beside their layers."""

    feature_info: FeatureInfo

    def _output_layers(self) -> list[list[nn.Module]]:
        """Layers between each stage and its output, which no later stage sees."""
        return [[] for _ in self.feature_info.channels]

    def _to_next_stage(self, stage: int) -> list[nn.Module]:
        """Layers of a stage that lead to the next one only."""
        return []

    def parameters_behind(self, levels: Collection[int]) -> list[nn.Parameter]:
        """Parameters that no output but the given levels depends on.

        Args:
            levels: indices of levels that nothing reads.
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
