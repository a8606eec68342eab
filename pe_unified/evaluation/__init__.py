"""Slice, segmentation, detection, lesion and exam metrics, with intervals over patients."""

from pe_unified.evaluation.exam_metric import ExamMetric, SlicesToExamMetric, StepMetric
from pe_unified.evaluation.lung_boxes import LungBoxMetric
from pe_unified.evaluation.metrics import (
    DetMetric,
    LungMetric,
    PatientMetric,
    SegMetric,
    SliceMetric,
    as_json,
    fix_thresholds,
)

#: The metric of each task.
PATIENT_METRICS: tuple[type[PatientMetric], ...] = (SliceMetric, SegMetric, DetMetric, ExamMetric)

__all__ = [
    "PATIENT_METRICS",
    "DetMetric",
    "ExamMetric",
    "LungBoxMetric",
    "LungMetric",
    "SegMetric",
    "SliceMetric",
    "SlicesToExamMetric",
    "StepMetric",
    "as_json",
    "fix_thresholds",
]
