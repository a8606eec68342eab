"""Data sets of slices, exams and volumes with their labels: from files to batches."""

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.datasets.exam_dataset import PEExamDataset
from pe_unified.datasets.exam_loading import LoadExamSlices, LoadStepFeatures, PackExamInputs
from pe_unified.datasets.exam_sample import PEExamSample
from pe_unified.datasets.exam_steps import ChunkSteps, LungSlices, SliceSteps
from pe_unified.datasets.feature_store import FeatureError, FeatureStore
from pe_unified.datasets.intensity import CTWindows, HUJitter
from pe_unified.datasets.joining import JoinSlices
from pe_unified.datasets.loading import LoadCTSlice, LoadLungBox, LoadPELabels
from pe_unified.datasets.packing import PackPEInputs
from pe_unified.datasets.pasting import PasteEmboli
from pe_unified.datasets.samplers import (
    ClassBalancedSampler,
    PEOversamplingSampler,
    SliceSampler,
)
from pe_unified.datasets.slice_dataset import (
    DatasetError,
    Draw,
    PESliceDataset,
)
from pe_unified.datasets.slice_transforms import CropToLungs, RandomSliceGeometry, ResizeSlice
from pe_unified.datasets.sources import training_sources
from pe_unified.datasets.volume_dataset import PEVolumeDataset
from pe_unified.datasets.volume_sample import PEVolumeSample
from pe_unified.datasets.volume_transforms import LoadVolume, LoadVolumePatches, PackVolumeInputs

__all__ = [
    "CTWindows",
    "ChunkSteps",
    "ClassBalancedSampler",
    "CropToLungs",
    "DatasetError",
    "Draw",
    "FeatureError",
    "FeatureStore",
    "HUJitter",
    "JoinSlices",
    "LoadCTSlice",
    "LoadExamSlices",
    "LoadLungBox",
    "LoadPELabels",
    "LoadStepFeatures",
    "LoadVolume",
    "LoadVolumePatches",
    "LungSlices",
    "PEDataSample",
    "PEExamDataset",
    "PEExamSample",
    "PEOversamplingSampler",
    "PESliceDataset",
    "PEVolumeDataset",
    "PEVolumeSample",
    "PackExamInputs",
    "PackPEInputs",
    "PackVolumeInputs",
    "PasteEmboli",
    "RandomSliceGeometry",
    "ResizeSlice",
    "SliceSampler",
    "SliceSteps",
    "training_sources",
]
