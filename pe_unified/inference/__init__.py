"""From a CT study to findings."""

from pe_unified.inference.lesions import Lesion, find_lesions
from pe_unified.inference.model import InferenceModel, load_model
from pe_unified.inference.predictor import SlicePrediction, StudyPredictor

__all__ = [
    "InferenceModel",
    "Lesion",
    "SlicePrediction",
    "StudyPredictor",
    "find_lesions",
    "load_model",
]
