"""From a CT study to a report."""

from pe_unified.inference.analysis import AnalysisOptions, analyse_study
from pe_unified.inference.lesions import Lesion, find_lesions
from pe_unified.inference.model import InferenceModel, load_model
from pe_unified.inference.predictor import SlicePrediction, StudyPredictor

__all__ = [
    "AnalysisOptions",
    "InferenceModel",
    "Lesion",
    "SlicePrediction",
    "StudyPredictor",
    "analyse_study",
    "find_lesions",
    "load_model",
]
