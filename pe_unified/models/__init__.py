"""Backbones, heads and the unified model."""

from pe_unified.models.backbones import FeatureInfo, PEResNet, PESwin
from pe_unified.models.cls_head import PEClsHead
from pe_unified.models.data_preprocessor import PEDataPreprocessor
from pe_unified.models.det_head import PEDetHead
from pe_unified.models.mmseg_head import PEUNetDecodeHead
from pe_unified.models.seg_head import PESegHead
from pe_unified.models.unified import PEUnified

__all__ = [
    "FeatureInfo",
    "PEClsHead",
    "PEDataPreprocessor",
    "PEDetHead",
    "PEResNet",
    "PESegHead",
    "PESwin",
    "PEUNetDecodeHead",
    "PEUnified",
]
