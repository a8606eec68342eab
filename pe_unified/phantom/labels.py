"""Exam labels of a synthetic study, by the rules of the RSNA-STR pulmonary embolism data."""

from collections.abc import Sequence
from dataclasses import dataclass

from pe_unified.ct.exam_labels import EXAM_LABELS


@dataclass(frozen=True)
class Embolus:
    """One painted embolus.

    Attributes:
        number: its value in the instance map.
        volume_ml: of its voxels.
        level: the most proximal level it reaches, a name of ``phantom.tree.LEVEL_NAMES``.
        left, right, central: its location; central is the trunk or a main artery.
        shape: "occlusive", "polo_mint" or "mural"; if chronic, "crescent", "web" or "recanalised",
            but "occlusive" if slices are too coarse to show any of these.
        chronic: the remains of an old clot rather than a fresh one.
        hu: its mean attenuation before noise, HU, including calcium.
    """

    number: int
    volume_ml: float
    level: str
    left: bool
    right: bool
    central: bool
    shape: str
    chronic: bool
    hu: float


def exam_labels(
    emboli: Sequence[Embolus],
    rv_lv_ratio: float,
    *,
    indeterminate: bool = False,
    qa_motion: bool = False,
    qa_contrast: bool = False,
    flow_artifact: bool = False,
    true_filling_defect_not_pe: bool = False,
) -> dict[str, int]:
    """The exam labels (0 or 1) that follow from the content of a study.

    Args:
        rv_lv_ratio: diameter of the right ventricle over that of the left.
        indeterminate: the study cannot be read (ignored if there are emboli).
    """
    positive = bool(emboli)
    chronic = [embolus.chronic for embolus in emboli]
    labels = {
        "negative_exam_for_pe": not positive and not indeterminate,
        "qa_motion": qa_motion,
        "qa_contrast": qa_contrast,
        "flow_artifact": flow_artifact,
        "rv_lv_ratio_gte_1": positive and rv_lv_ratio >= 1,
        "rv_lv_ratio_lt_1": positive and rv_lv_ratio < 1,
        "leftsided_pe": any(embolus.left for embolus in emboli),
        "chronic_pe": positive and all(chronic),
        "true_filling_defect_not_pe": true_filling_defect_not_pe,
        "rightsided_pe": any(embolus.right for embolus in emboli),
        "acute_and_chronic_pe": any(chronic) and not all(chronic),
        "central_pe": any(embolus.central for embolus in emboli),
        "indeterminate": not positive and indeterminate,
    }
    return {name: int(labels[name]) for name in EXAM_LABELS}
