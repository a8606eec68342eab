"""Slice, segmentation, detection, lesion and exam metrics, with intervals over patients."""

from pe_unified.evaluation.metrics import (
    DetMetric,
    SegMetric,
    SliceMetric,
    as_json,
    fix_thresholds,
)

__all__ = ["DetMetric", "SegMetric", "SliceMetric", "as_json", "fix_thresholds"]
