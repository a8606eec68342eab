"""mmpretrain's ResNet with all four levels."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from operator import mul
from typing import Any

from mmpretrain.models.backbones.resnet import Bottleneck, ResNet
from torch import nn

from pe_unified.models.backbones.levels import (
    FeatureInfo,
    LevelsBackbone,
    check_frozen,
    refuse_other,
)
from pe_unified.registry import MODELS

#: mmpretrain's ResNet initialisation: He for convolutions, one for norm scales.
_RESNET_INIT = (
    dict(type="Kaiming", layer=["Conv2d"]),
    dict(type="Constant", val=1, layer=["_BatchNorm", "GroupNorm"]),
)


@MODELS.register_module()
class PEResNet(LevelsBackbone, ResNet):
    """mmpretrain's ResNet (https://arxiv.org/abs/1512.03385) with all four levels.

    Args:
        depth: 18, 26, 34, 50, 101 or 152; 26 has two bottleneck blocks per stage.
        in_channels: channels of the input.
        base_channels: width of the first stage before expansion; 64 is the published width.
        stem_channels: width of the stem, ``base_channels`` if None.
        deep_stem: three 3x3 convolutions instead of the 7x7 one.
        avg_down: average-pool on the shortcut instead of a strided 1x1 convolution.
        strides, dilations: one per stage.
        frozen_stages, norm_eval: see :class:`LevelsBackbone`.
        norm_cfg: normalisation layers, as in mmcv.
        drop_path_rate: stochastic depth at the last block, rising linearly from 0.
        zero_init_residual: the last norm of each block starts at 0, so blocks start as identity.
        with_cp: save memory at the cost of time by checkpointing the blocks.
        pretrained: None, ``"torchvision://resnet50"``, a URL, or a file; see
            :func:`~pe_unified.models.backbones.pretrained.load_pretrained`.
        num_stages, out_indices, style: accepted with the values of stock configs for four levels;
            any other value is an error.
    """

    arch_settings = {**ResNet.arch_settings, 26: (Bottleneck, (2, 2, 2, 2))}

    def __init__(
        self,
        depth: int = 50,
        in_channels: int = 3,
        base_channels: int = 64,
        stem_channels: int | None = None,
        deep_stem: bool = False,
        avg_down: bool = False,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: Mapping[str, Any] = dict(type="BN", requires_grad=True),
        drop_path_rate: float = 0.0,
        zero_init_residual: bool = True,
        with_cp: bool = False,
        pretrained: str | None = None,
        num_stages: int = 4,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        style: str = "pytorch",
        init_cfg: Any = None,
    ) -> None:
        refuse_other("num_stages", num_stages, 4)
        refuse_other("out_indices", out_indices, (0, 1, 2, 3))
        refuse_other("style", style, "pytorch")
        self.pretrained = pretrained
        super().__init__(
            depth=depth,
            in_channels=in_channels,
            stem_channels=base_channels if stem_channels is None else stem_channels,
            base_channels=base_channels,
            strides=tuple(strides),
            dilations=tuple(dilations),
            out_indices=(0, 1, 2, 3),
            deep_stem=deep_stem,
            avg_down=avg_down,
            frozen_stages=check_frozen(frozen_stages),
            norm_cfg=dict(norm_cfg),
            norm_eval=norm_eval,
            with_cp=with_cp,
            zero_init_residual=zero_init_residual,
            drop_path_rate=drop_path_rate,
            init_cfg=[dict(rule) for rule in _RESNET_INIT] if init_cfg is None else init_cfg,
        )
        widths = [base_channels * self.expansion * 2**stage for stage in range(4)]
        reductions = accumulate(strides, mul, initial=4)
        next(reductions)
        self.feature_info = FeatureInfo(tuple(widths), tuple(reductions))

    def _stages(self) -> list[list[nn.Module]]:
        stem = [self.stem] if self.deep_stem else [self.conv1, self.norm1]
        return [stem, *([getattr(self, name)] for name in self.res_layers)]

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Like mmpretrain's, for any depth and by block: the stem is 0, then every block counts.

        Returns:
            The parameter's layer and the number of layers; everything after the backbone counts as
            one layer.
        """
        total = sum(self.stage_blocks) + 2
        if not param_name.startswith(prefix):
            return total - 1, total
        part, *rest = param_name.removeprefix(prefix).split(".")
        if not part.startswith("layer"):
            return 0, total
        stage = int(part.removeprefix("layer")) - 1
        return sum(self.stage_blocks[:stage]) + int(rest[0]) + 1, total
