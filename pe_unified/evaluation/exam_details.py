"""Of a test on exams, what a reader of papers looks for beside the metrics."""

from collections.abc import Mapping
from typing import Any

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.evaluation.calibration import ppv_npv
from pe_unified.evaluation.delong import auc_interval
from pe_unified.evaluation.exams import ExamTable


def exam_details(
    table: ExamTable, metrics: Mapping[str, Any], prevalence: float | None = None
) -> dict[str, Any]:
    """DeLong's intervals, and predictive values at a prevalence.

    Args:
        table: of the test.
        metrics: with ``exam/sensitivity`` and ``exam/specificity`` at the threshold that was fixed
            on validation.
        prevalence: share of positive exams among those that the model will see; a split is seldom
            like them.

    Returns:
        ``delong``: by target ``[area, low, high]``, for comparison with published intervals (it
        takes exams for independent); with a prevalence also ``prevalence``, ``ppv`` and ``npv``.

    Raises:
        ValueError: the prevalence is no share.
    """
    areas = {}
    for target in EXAM_TARGETS:
        cases = table.of(target)
        found = auc_interval(cases.label, cases.score)
        areas[target] = [found.value, found.low, found.high]
    details: dict[str, Any] = {"delong": areas}
    if prevalence is not None:
        ppv, npv = ppv_npv(metrics["exam/sensitivity"], metrics["exam/specificity"], prevalence)
        details |= {"prevalence": prevalence, "ppv": ppv, "npv": npv}
    return details
