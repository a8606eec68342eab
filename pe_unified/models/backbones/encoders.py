"""Encoders of slices: a backbone or a timm network, pooled to one vector."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from pe_unified.models.backbones.levels import FeatureInfo
from pe_unified.models.backbones.timm import require_known, take_weights
from pe_unified.models.evidence_map import EvidenceMap, pool_evidence
from pe_unified.registry import MODELS

_POOLS = ("avg", "avg+max")


class _OnBackbone(BaseModule):
    """An encoder that declares the levels of its backbone."""

    def __init__(self, backbone: Mapping[str, Any], init_cfg: dict | None) -> None:
        super().__init__(init_cfg)
        self.backbone = MODELS.build(dict(backbone))

    @property
    def feature_info(self) -> FeatureInfo:
        return self.backbone.feature_info

    def level_modules(self) -> list[tuple[nn.Module, ...]]:
        """See :class:`~pe_unified.models.protocols.Levels`."""
        return self.backbone.level_modules()


@MODELS.register_module()
class BackboneEncoder(_OnBackbone):
    """The pooled last level of a backbone, optionally with an evidence map for small findings.

    The average over a slice dilutes an embolus of a few pixels. ``evidence_channels`` adds the two
    pooled values of an :class:`~pe_unified.models.evidence_map.EvidenceMap` over all levels. Its
    weights can come from the ``cls_head.evidence`` of a slice model, if that has the same width.
    Parameters that affect only unused levels are frozen, because they get no gradient.

    Args:
        backbone: config of a :class:`~pe_unified.models.protocols.Backbone`.
        pool: ``"avg"``, or ``"avg+max"``, which appends the maximum of every channel.
        projection: channels of a linear layer after GELU and dropout; None for none.
        dropout: probability of dropping a pooled feature before the projection.
        evidence_channels: width of the evidence map; 0 for none.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        pool: str = "avg",
        projection: int | None = None,
        dropout: float = 0.0,
        evidence_channels: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(backbone, init_cfg)
        if pool not in _POOLS:
            raise ValueError(f"pool is one of {_POOLS}, got {pool!r}")
        channels = self.backbone.feature_info.channels
        self.evidence = EvidenceMap(channels, evidence_channels) if evidence_channels else None
        for parameter in self.backbone.parameters_behind(set() if self.evidence else {0, 1, 2}):
            parameter.requires_grad_(False)
        self.with_max = pool == "avg+max"
        width = channels[-1] * (2 if self.with_max else 1) + (2 if self.evidence else 0)
        self.out_channels = projection or width
        self.projection = _projection(width, projection, dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """See :class:`~pe_unified.models.protocols.Encoder`; inputs (n, channels, rows, cols)."""
        return self.pooled(self.backbone(inputs))

    def pooled(self, levels: Sequence[Tensor]) -> Tensor:
        """The vectors from a backbone's levels, each (n, channels, rows, cols), finest first."""
        pooled = [levels[-1].mean(dim=(2, 3))]
        if self.with_max:
            pooled.append(levels[-1].amax(dim=(2, 3)))
        if self.evidence is not None:
            pooled.append(pool_evidence(self.evidence(levels)))
        return self.projection(torch.cat(pooled, dim=1))


@MODELS.register_module()
class TimmEncoder(BaseModule):
    """Any timm network by name, with its own pooling; it need not have levels.

    Set the input size of fixed-size networks, such as ViT and CoAtNet, with the option
    ``img_size``.

    Args:
        model_name: such as ``"coatnet_0_rw_224"``; ``timm.list_models()`` has all of them.
        in_channels: channels of the input; timm spreads pretrained weights over them.
        projection: channels of a linear layer after GELU and dropout; None for none.
        dropout: probability of dropping a pooled feature before the projection.
        pretrained: None, ``"timm://"`` for timm's own weights, or a file with them.
        options: further arguments of ``timm.create_model``, such as ``drop_path_rate``.

    Raises:
        ValueError: timm has no such network, or an option names a file.
    """

    def __init__(
        self,
        model_name: str,
        in_channels: int = 3,
        projection: int | None = None,
        dropout: float = 0.0,
        pretrained: str | None = None,
        init_cfg: Any = None,
        **options: Any,
    ) -> None:
        import timm  # slow to import (1-2 s), and few configs need it

        super().__init__(init_cfg)
        require_known(model_name, options)
        self.pretrained = pretrained
        creation = {"model_name": model_name, "in_chans": in_channels, **options}
        self._creation = {**creation, "num_classes": 0}
        self.net = timm.create_model(**self._creation)
        width = self.net.head_hidden_size
        self.out_channels = projection or width
        self.projection = _projection(width, projection, dropout)

    @property
    def feature_info(self) -> FeatureInfo:
        levels = self.net.feature_info
        channels = tuple(level["num_chs"] for level in levels)
        return FeatureInfo(channels, tuple(level["reduction"] for level in levels))

    def level_modules(self) -> list[tuple[nn.Module, ...]]:
        """See :class:`~pe_unified.models.protocols.Levels`."""
        return [(self.net.get_submodule(level["module"]),) for level in self.net.feature_info]

    def forward(self, inputs: Tensor) -> Tensor:
        """See :class:`~pe_unified.models.protocols.Encoder`; inputs (n, channels, rows, cols)."""
        return self.projection(self.net(inputs))

    def init_weights(self) -> None:
        """Load the pretrained weights, once.

        Raises:
            CheckpointError: the weights are unavailable or do not fit.
        """
        if self.pretrained is not None and not self.is_init:
            take_weights(self.net, self.pretrained, self._creation)
        self._is_init = True


@MODELS.register_module()
class ClassifierEncoder(_OnBackbone):
    """The output of a slice classifier, the log-odds of its second class, as the only feature.

    Log-odds, unlike probabilities, do not saturate where the classifier is confident.

    Args:
        backbone: config of a :class:`~pe_unified.models.protocols.Backbone`.
        cls_head: config of a :class:`~pe_unified.models.heads.cls.PEClsHead` with two classes.
    """

    out_channels = 1

    def __init__(
        self,
        backbone: Mapping[str, Any],
        cls_head: Mapping[str, Any],
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(backbone, init_cfg)
        levels = self.backbone.feature_info
        given = {"in_channels": levels.channels, "in_strides": levels.strides}
        self.cls_head = MODELS.build({**given, **cls_head})

    def forward(self, inputs: Tensor) -> Tensor:
        """See :class:`~pe_unified.models.protocols.Encoder`; inputs (n, channels, rows, cols)."""
        logits = self.cls_head(self.backbone(inputs))
        return logits[:, 1:] - logits[:, :1]


def _projection(width: int, projection: int | None, dropout: float) -> nn.Module:
    if projection is None:
        return nn.Identity()
    return nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(width, projection))
