"""mmpretrain's Swin Transformer with all four levels."""

from collections.abc import Sequence
from typing import Any

from mmpretrain.models.backbones.swin_transformer import SwinTransformer
from torch import nn

from pe_unified.models.backbones.levels import (
    FeatureInfo,
    LevelsBackbone,
    check_frozen,
    refuse_other,
)
from pe_unified.models.backbones.window_attention import ShiftedWindowAttention
from pe_unified.registry import MODELS


@MODELS.register_module()
class PESwin(LevelsBackbone, SwinTransformer):
    """mmpretrain's Swin Transformer (https://arxiv.org/abs/2103.14030) with all four levels.

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
        frozen_stages, norm_eval: see :class:`LevelsBackbone`.
        with_cp: save memory at the cost of time by checkpointing the blocks.
        pretrained: None, ``"torchvision://swin_t"``, a URL, or a file; see
            :func:`~pe_unified.models.backbones.pretrained.load_pretrained`.
        out_indices: accepted with the value of stock configs for four levels; any other value is an
            error.
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
        refuse_other("out_indices", out_indices, (0, 1, 2, 3))
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
            frozen_stages=check_frozen(frozen_stages),
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
