"""Backbones, encoders, aggregators, heads and the models built from them."""

from pe_unified.models.aggregators.attention_lstm import AttentionLSTMAggregator
from pe_unified.models.aggregators.gru import GRUAggregator
from pe_unified.models.aggregators.tcn import TCNAggregator
from pe_unified.models.backbones.encoders import BackboneEncoder, ClassifierEncoder, TimmEncoder
from pe_unified.models.backbones.levels import FeatureInfo
from pe_unified.models.backbones.none import NoBackbone
from pe_unified.models.backbones.r3d import R3D18Encoder
from pe_unified.models.backbones.resnet import PEResNet
from pe_unified.models.backbones.swin import PESwin
from pe_unified.models.backbones.timm import PETimm
from pe_unified.models.backbones.unet_encoder import UNetEncoder
from pe_unified.models.backbones.window_branches import WindowBranches
from pe_unified.models.data_preprocessor import PEDataPreprocessor
from pe_unified.models.decoders.attention_unet import AttentionUNetDecoder
from pe_unified.models.decoders.centred_unet import CentredUNetDecoder
from pe_unified.models.decoders.unet import UNetDecoder
from pe_unified.models.decoders.unet_plus_plus import UNetPlusPlusDecoder
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
from pe_unified.models.heads.volume import VolumeHead
from pe_unified.models.imbalance_losses import (
    FocalTverskyLoss,
    SymmetricCrossEntropyLoss,
    TwoClassLoss,
)
from pe_unified.models.lung_detector import LungDetector
from pe_unified.models.nets.aanet3d import AANet3D
from pe_unified.models.nets.monai import MONAINet
from pe_unified.models.nets.nfn_plus import NFNPlus
from pe_unified.models.nets.smp import SMPNet
from pe_unified.models.nets.u2net import U2Net
from pe_unified.models.nets.xnet import XNet
from pe_unified.models.slice_model import PEUnified
from pe_unified.models.volume_losses import VolumeTverskyLoss
from pe_unified.models.volume_model import PEVolume
from pe_unified.models.volume_preprocessor import PEVolumePreprocessor

__all__ = [
    "AANet3D",
    "AttentionLSTMAggregator",
    "AttentionUNetDecoder",
    "BackboneEncoder",
    "CentredUNetDecoder",
    "ClassifierEncoder",
    "ExamBCELoss",
    "ExamHead",
    "FeatureInfo",
    "FocalTverskyLoss",
    "GRUAggregator",
    "LungDetector",
    "MONAINet",
    "NFNPlus",
    "NoBackbone",
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
    "PEVolume",
    "PEVolumePreprocessor",
    "PairHead",
    "R3D18Encoder",
    "RSNAExamLoss",
    "SMPNet",
    "StepHead",
    "SymmetricCrossEntropyLoss",
    "TCNAggregator",
    "TimmEncoder",
    "TwoClassLoss",
    "U2Net",
    "UNetDecoder",
    "UNetEncoder",
    "UNetPlusPlusDecoder",
    "VolumeHead",
    "VolumeTverskyLoss",
    "WindowBranches",
    "XNet",
]
