"""The two backbones: mmpretrain's ResNet and Swin Transformer under one behaviour.

Both give all four levels as a tuple of (n, channels, rows, cols), declare them in
``feature_info``, freeze alike, and start from ImageNet by one switch (``pretrained``).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Any

from mmpretrain.models.backbones.resnet import Bottleneck, ResNet
from mmpretrain.models.backbones.swin_transformer import SwinTransformer
from torch import nn

from pe_unified.models.backbones.pretrained import load_pretrained
from pe_unified.models.backbones.window_attention import ShiftedWindowAttention
from pe_unified.registry import MODELS

#: mmpretrain's ResNet initialisation: He for convolutions, one for norm scales.
_RESNET_INIT = (
    dict(type="Kaiming", layer=["Conv2d"]),
    dict(type="Constant", val=1, layer=["_BatchNorm", "GroupNorm"]),
)


@dataclass(frozen=True)
class FeatureInfo:
    """What a backbone gives, finest level first.

    Attributes:
        channels: channels of each level.
        strides: input pixels per feature pixel of each level.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]


class _FrozenAndPretrained:
    """What the two backbones share beside their layers: freezing and the ImageNet start.

    ``frozen_stages``: -1 freezes nothing, 0 the stem, k the stem and the first k stages, 4
    the whole backbone. A frozen part has no gradients, and its batch-norm statistics, dropout
    and drop-path stand still through every later ``train()``. ``norm_eval`` keeps the
    statistics of every batch-norm still while its scale and shift go on learning; a backbone
    without batch-norm is not touched by it.
    """

    frozen_stages: int
    pretrained: str | None

    def _stages(self) -> list[list[nn.Module]]:
        """Modules of the stem, then of each stage in order."""
        raise NotImplementedError

    def _freeze_stages(self) -> None:
        for modules in self._stages()[: self.frozen_stages + 1]:
            for module in modules:
                module.eval()
                module.requires_grad_(False)

    def _output_layers(self) -> list[list[nn.Module]]:
        """Layers between each stage and its output, which no later stage sees."""
        return [[], [], [], []]

    def _to_next_stage(self, stage: int) -> list[nn.Module]:
        """Layers of a stage that lead to the next one only."""
        return []

    def parameters_behind(self, levels: Collection[int]) -> list[nn.Parameter]:
        """Parameters that no output but the given levels depends on.

        Args:
            levels: indices of levels that nothing reads.
        """
        read = [level for level in range(4) if level not in levels]
        deepest = max(read, default=-1)
        modules = [module for stage in self._stages()[deepest + 2 :] for module in stage]
        if not read:
            modules += self._stages()[0]
        elif deepest < 3:
            modules += self._to_next_stage(deepest)
        for level in range(deepest):
            if level in levels:
                modules += self._output_layers()[level]
        return [parameter for module in modules for parameter in module.parameters()]

    def train(self, mode: bool = True):
        super().train(mode)
        return self

    def init_weights(self) -> None:
        first_time = not self.is_init
        super().init_weights()
        if self.pretrained is not None and first_time:
            load_pretrained(self, self.pretrained)


def _check_frozen(frozen_stages: int) -> int:
    if not -1 <= frozen_stages <= 4:
        raise ValueError(
            f"frozen_stages is -1 (none), 0 (stem) or 1 to 4 (that many stages), "
            f"got {frozen_stages}"
        )
    return frozen_stages


def _refuse_other(name: str, given: Any, only: Any) -> None:
    given = tuple(given) if isinstance(given, list) else given
    if given != only:
        raise ValueError(
            f"{name}={given!r}: this backbone always has {name}={only!r}; "
            f"leave the key out of the config"
        )


@MODELS.register_module()
class PEResNet(_FrozenAndPretrained, ResNet):
    """ResNet (https://arxiv.org/abs/1512.03385), mmpretrain's, all four levels.

    Args:
        depth: 18, 26, 34, 50, 101 or 152; 26 has two bottleneck blocks per stage.
        in_channels: channels of the input.
        base_channels: width of the first stage before expansion; 64 is the published width.
        stem_channels: width of the stem, ``base_channels`` if None.
        deep_stem: three 3x3 convolutions in place of the 7x7 one.
        avg_down: average-pool on the shortcut in place of a strided 1x1 convolution.
        strides, dilations: of the four stages.
        frozen_stages, norm_eval: see :class:`_FrozenAndPretrained`.
        norm_cfg: normalisation layers, as in mmcv.
        drop_path_rate: stochastic depth at the last block, rising linearly from 0.
        zero_init_residual: last norm of each block starts at 0, so blocks start as identity.
        with_cp: trade time for memory by checkpointing the blocks.
        pretrained: None, ``"torchvision://resnet50"``, a URL, or a file; see
            :func:`~pe_unified.models.backbones.pretrained.load_pretrained`.
        num_stages, out_indices, style: accepted as stock configs write them for four levels;
            any other value is refused.
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
        _refuse_other("num_stages", num_stages, 4)
        _refuse_other("out_indices", out_indices, (0, 1, 2, 3))
        _refuse_other("style", style, "pytorch")
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
            frozen_stages=_check_frozen(frozen_stages),
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
        """As mmpretrain's, for any depth and by block: the stem is 0, then every block.

        Returns:
            The parameter's layer, and the number of layers, what follows the backbone
            counting as one.
        """
        total = sum(self.stage_blocks) + 2
        if not param_name.startswith(prefix):
            return total - 1, total
        part, *rest = param_name.removeprefix(prefix).split(".")
        if not part.startswith("layer"):
            return 0, total
        stage = int(part.removeprefix("layer")) - 1
        return sum(self.stage_blocks[:stage]) + int(rest[0]) + 1, total


@MODELS.register_module()
class PESwin(_FrozenAndPretrained, SwinTransformer):
    """Swin Transformer (https://arxiv.org/abs/2103.14030), mmpretrain's, all four levels.

    Takes any input size. A map that fits into one window is not shifted, as in the original
    and in torchvision; mmpretrain would mask most of it.

    Args:
        embed_dims, depths, num_heads: width of the first stage, blocks and attention heads
            per stage; the defaults are Swin-T.
        window_size: side of the attention window, in patches.
        in_channels: channels of the input.
        patch_size: side of a patch, in pixels.
        drop_path_rate: stochastic depth at the last block, rising linearly from 0.
        drop_rate, attn_drop_rate: dropout after the embedding and on attention weights.
        frozen_stages, norm_eval: see :class:`_FrozenAndPretrained`.
        with_cp: trade time for memory by checkpointing the blocks.
        pretrained: None, ``"torchvision://swin_t"``, a URL, or a file; see
            :func:`~pe_unified.models.backbones.pretrained.load_pretrained`.
        out_indices: accepted as stock configs write it for four levels; any other value is
            refused.
    """

    def __init__(
        self,
        embed_dims: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        in_channels: int = 3,
        patch_size: int = 4,
        drop_path_rate: float = 0.1,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        pretrained: str | None = None,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        init_cfg: Any = None,
    ) -> None:
        _refuse_other("out_indices", out_indices, (0, 1, 2, 3))
        if not len(depths) == len(num_heads) == 4:
            raise ValueError(
                f"PESwin has four stages: depths and num_heads need four entries each, "
                f"got {tuple(depths)} and {tuple(num_heads)}"
            )
        self.pretrained = pretrained
        super().__init__(
            arch=dict(embed_dims=embed_dims, depths=list(depths), num_heads=list(num_heads)),
            patch_size=patch_size,
            in_channels=in_channels,
            window_size=window_size,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            out_indices=(0, 1, 2, 3),
            with_cp=with_cp,
            frozen_stages=_check_frozen(frozen_stages),
            norm_eval=norm_eval,
            pad_small_map=True,
            stage_cfgs=dict(block_cfgs=dict(attn_cfgs=dict(attn_drop=attn_drop_rate))),
            init_cfg=[dict(type="TruncNormal", layer="Linear", std=0.02, bias=0.0)]
            if init_cfg is None
            else init_cfg,
        )
        for stage in self.stages:
            for block in stage.blocks:
                block.attn = ShiftedWindowAttention(block.attn)
        self.feature_info = FeatureInfo(
            tuple(embed_dims * 2**stage for stage in range(4)),
            tuple(patch_size * 2**stage for stage in range(4)),
        )
        self._freeze_stages()

    def _stages(self) -> list[list[nn.Module]]:
        stem = [self.patch_embed, self.drop_after_pos]
        outputs = self._output_layers()
        return [stem, *([stage, *layers] for stage, layers in zip(self.stages, outputs))]

    def _output_layers(self) -> list[list[nn.Module]]:
        return [[getattr(self, f"norm{i}")] for i in range(4)]

    def _to_next_stage(self, stage: int) -> list[nn.Module]:
        return [self.stages[stage].downsample]
