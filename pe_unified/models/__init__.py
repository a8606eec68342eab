"""Backbones, heads and the unified model."""

from pe_unified.models.backbones.levels import FeatureInfo
from pe_unified.models.backbones.resnet import PEResNet
from pe_unified.models.backbones.swin import PESwin
from pe_unified.models.backbones.timm import PETimm
from pe_unified.models.data_preprocessor import PEDataPreprocessor
from pe_unified.models.decoders.unet import UNetDecoder
from pe_unified.models.heads.cls import PEClsHead
from pe_unified.models.heads.det import PEDetHead
from pe_unified.models.heads.seg import PESegHead
from pe_unified.models.slice_model import PEUnified

__all__ = [
    "FeatureInfo",
    "PEClsHead",
    "PEDataPreprocessor",
    "PEDetHead",
    "PEResNet",
    "PESegHead",
    "PESwin",
    "PETimm",
    "PEUnified",
    "UNetDecoder",
]
