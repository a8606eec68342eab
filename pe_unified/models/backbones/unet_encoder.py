"""The UNet encoder: convolution blocks with pooling between them."""

from collections.abc import Mapping
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from pe_unified.models.backbones.levels import FeatureInfo, LevelsBackbone, check_frozen
from pe_unified.models.conv_blocks import conv_block
from pe_unified.models.presets import PAPER, base_width
from pe_unified.registry import MODELS


@MODELS.register_module()
class UNetEncoder(LevelsBackbone, BaseModule):
    """Levels at strides 1, 2, 4, ..., each twice as wide as the one before.

    U-Net (https://arxiv.org/abs/1505.04597), padded, with batch norm.

    Args:
        preset: ``"seed"``, 32 channels at full size, or ``"paper"``.
        base_channels: channels at full size, instead of the preset's.
        paper_channels: channels of the preset ``"paper"``: 64 in most papers of the family.
        poolings: number of poolings; there is one more level.
        block: kind of block, see :func:`~pe_unified.models.conv_blocks.conv_block`.
        in_channels: channels of the input.
        frozen_stages: -1 or 0 freezes nothing, k the first k levels; there is no stem.
        norm_eval: see :class:`~pe_unified.models.backbones.levels.StagedNetwork`.
        norm_cfg: normalisation layers, as in mmcv.
        pretrained: None, or a checkpoint with such a backbone.
    """

    def __init__(
        self,
        preset: str = "seed",
        base_channels: int | None = None,
        paper_channels: int = PAPER,
        poolings: int = 4,
        block: str = "double",
        in_channels: int = 3,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: Mapping[str, Any] = dict(type="BN"),
        pretrained: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Kaiming", layer="Conv2d"))
        levels = poolings + 1
        self.frozen_stages = check_frozen(frozen_stages, levels)
        self.norm_eval, self.pretrained = norm_eval, pretrained
        base = base_width(preset, base_channels, paper=paper_channels)
        widths = [base * 2**level for level in range(levels)]
        self.blocks = nn.ModuleList(
            conv_block(block, given, width, norm_cfg)
            for given, width in zip([in_channels, *widths], widths)
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.feature_info = FeatureInfo(tuple(widths), tuple(2**level for level in range(levels)))
        self._freeze_stages()

    def _stages(self) -> list[list[nn.Module]]:
        return [[], *([block] for block in self.blocks)]

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """The parameter's level and the number of levels; all that follows counts as one level."""
        total = len(self.blocks) + 1
        if not param_name.startswith(prefix):
            return total - 1, total
        return int(param_name.removeprefix(prefix).split(".")[1]), total

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """See :class:`~pe_unified.models.protocols.Backbone`."""
        levels: list[Tensor] = []
        for block in self.blocks:
            levels.append(block(self.pool(levels[-1]) if levels else inputs))
        return tuple(levels)
