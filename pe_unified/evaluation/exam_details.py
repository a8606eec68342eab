"""Further results of a test on exams, as papers report them."""

import math
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
        table: table of the test.
        metrics: with ``exam/sensitivity`` and ``exam/specificity`` at the threshold chosen on
            validation.
        prevalence: share of positive exams in practice, which a split rarely has.

    Returns:
        ``delong``: by target ``[area, low, high]``, for comparison with published intervals (it
        assumes independent exams); with a prevalence also ``prevalence``, ``ppv`` and ``npv``.

    Raises:
        ValueError: the prevalence is not in 0..1.
    """
    areas = {}
    for target in EXAM_TARGETS:
        cases = table.of(target)
        found = auc_interval(cases.label, cases.score)
        areas[target] = [found.value, found.low, found.high]
    details: dict[str, Any] = {"delong": areas}
    if prevalence is not None:
        found, spared = (
            metrics.get(f"exam/{name}", math.nan) for name in ("sensitivity", "specificity")
        )
        ppv, npv = ppv_npv(found, spared, prevalence)
        details |= {"prevalence": prevalence, "ppv": ppv, "npv": npv}
    return details
