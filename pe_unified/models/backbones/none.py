"""No backbone, for heads that read only the image."""

from collections.abc import Collection

from mmengine.model import BaseModule
from torch import Tensor, nn

from pe_unified.models.backbones.levels import FeatureInfo
from pe_unified.registry import MODELS


@MODELS.register_module()
class NoBackbone(BaseModule):
    """No levels and no parameters: the segmentation head's decoder is the whole net."""

    feature_info = FeatureInfo((), ())

    def level_modules(self) -> list[tuple[nn.Module, ...]]:
        return []

    def parameters_behind(self, levels: Collection[int]) -> list[nn.Parameter]:
        return []

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return ()
