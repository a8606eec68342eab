"""From a CT study to findings."""

from pe_unified.inference.exam import ExamAnswer, ExamModel, load_exam_model, predict_exam
from pe_unified.inference.lesions import Lesion, find_lesions
from pe_unified.inference.model import InferenceModel, load_model
from pe_unified.inference.predictor import SlicePrediction, StudyPredictor

__all__ = [
    "ExamAnswer",
    "ExamModel",
    "InferenceModel",
    "Lesion",
    "SlicePrediction",
    "StudyPredictor",
    "find_lesions",
    "load_exam_model",
    "load_model",
    "predict_exam",
]
