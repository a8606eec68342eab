"""The label rules of the RSNA-STR pulmonary embolism data, written down a second time."""

from collections.abc import Mapping

from pe_unified.ct.exam_labels import EXAM_LABELS


def label_faults(labels: Mapping[str, int], any_slice_positive: bool) -> list[str]:
    """Contradictions to the rules at the 0.5 cut; empty if there are none."""
    on = {name for name in EXAM_LABELS if labels[name] > 0.5}
    faults = []
    if any_slice_positive:
        if len(on & {"rv_lv_ratio_gte_1", "rv_lv_ratio_lt_1"}) != 1:
            faults.append("a positive exam has exactly one RV/LV label")
        if not on & {"leftsided_pe", "rightsided_pe", "central_pe"}:
            faults.append("a positive exam names a side, or central")
        if {"chronic_pe", "acute_and_chronic_pe"} <= on:
            faults.append("chronic and acute-and-chronic exclude each other")
        if on & {"negative_exam_for_pe", "indeterminate"}:
            faults.append("a positive exam is neither negative nor indeterminate")
    else:
        if len(on & {"negative_exam_for_pe", "indeterminate"}) != 1:
            faults.append("an exam without emboli is either negative or indeterminate")
        informational = {"qa_motion", "qa_contrast", "flow_artifact", "true_filling_defect_not_pe"}
        extra = on - informational - {"negative_exam_for_pe", "indeterminate"}
        if extra:
            faults.append(f"an exam without emboli must not have {', '.join(sorted(extra))}")
    return faults
