"""Every metric that a config can name; importing this module registers them."""

from pe_unified.evaluation.exam_metric import ExamMetric, SlicesToExamMetric, StepMetric
from pe_unified.evaluation.lung_boxes import LungBoxMetric
from pe_unified.evaluation.metrics import (
    DetMetric,
    LungMetric,
    PatientMetric,
    SegMetric,
    SliceMetric,
)
from pe_unified.evaluation.volume_metric import ArteryMetric, LesionMetric

#: The metric of each task.
PATIENT_METRICS: tuple[type[PatientMetric], ...] = (
    *(SliceMetric, SegMetric, DetMetric),
    *(ExamMetric, LesionMetric, ArteryMetric),
)

__all__ = [
    "PATIENT_METRICS",
    "ArteryMetric",
    "DetMetric",
    "ExamMetric",
    "LesionMetric",
    "LungBoxMetric",
    "LungMetric",
    "SegMetric",
    "SliceMetric",
    "SlicesToExamMetric",
    "StepMetric",
]
