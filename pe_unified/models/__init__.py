"""Backbones, encoders, aggregators, heads and the models that are made of them."""

from pe_unified.models.aggregators.attention_lstm import AttentionLSTMAggregator
from pe_unified.models.aggregators.gru import GRUAggregator
from pe_unified.models.aggregators.tcn import TCNAggregator
from pe_unified.models.backbones.encoders import BackboneEncoder, ClassifierEncoder, TimmEncoder
from pe_unified.models.backbones.levels import FeatureInfo
from pe_unified.models.backbones.r3d import R3D18Encoder
from pe_unified.models.backbones.resnet import PEResNet
from pe_unified.models.backbones.swin import PESwin
from pe_unified.models.backbones.timm import PETimm
from pe_unified.models.backbones.window_branches import WindowBranches
from pe_unified.models.data_preprocessor import PEDataPreprocessor
from pe_unified.models.decoders.unet import UNetDecoder
from pe_unified.models.exam_losses import ExamBCELoss, RSNAExamLoss
from pe_unified.models.exam_model import PEExam
from pe_unified.models.exam_preprocessor import PEExamPreprocessor
from pe_unified.models.heads.cls import PEClsHead
from pe_unified.models.heads.det import PEDetHead
from pe_unified.models.heads.exam import ExamHead
from pe_unified.models.heads.noisy_or import NoisyOrHead
from pe_unified.models.heads.pairs import PairHead
from pe_unified.models.heads.seg import PESegHead
from pe_unified.models.heads.step import StepHead
from pe_unified.models.lung_detector import LungDetector
from pe_unified.models.slice_model import PEUnified

__all__ = [
    "AttentionLSTMAggregator",
    "BackboneEncoder",
    "ClassifierEncoder",
    "ExamBCELoss",
    "ExamHead",
    "FeatureInfo",
    "GRUAggregator",
    "LungDetector",
    "NoisyOrHead",
    "PEClsHead",
    "PEDataPreprocessor",
    "PEDetHead",
    "PEExam",
    "PEExamPreprocessor",
    "PEResNet",
    "PESegHead",
    "PESwin",
    "PETimm",
    "PEUnified",
    "PairHead",
    "R3D18Encoder",
    "RSNAExamLoss",
    "StepHead",
    "TCNAggregator",
    "TimmEncoder",
    "UNetDecoder",
    "WindowBranches",
]
