"""The answer of an exam model in a report, as data and in words."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pe_unified.evaluation.verdict import score_text

if TYPE_CHECKING:
    from pe_unified.inference.exam import ExamAnswer, ExamModel

#: Labels grouped by the question they answer, in plain words.
QUESTIONS: Mapping[str, Mapping[str, str]] = {
    "Is there embolism?": {
        "positive_exam_for_pe": "embolism",
        "negative_exam_for_pe": "no embolism",
        "indeterminate": "cannot be decided",
    },
    "Where is it?": {
        "central_pe": "in central arteries",
        "rightsided_pe": "on the right",
        "leftsided_pe": "on the left",
    },
    "How old is it?": {
        "chronic_pe": "chronic",
        "acute_and_chronic_pe": "acute and chronic",
    },
    "Is the right heart strained?": {
        "rv_lv_ratio_gte_1": "RV/LV at least 1",
        "rv_lv_ratio_lt_1": "RV/LV below 1",
    },
}
#: All labels in plain words, without the questions.
WORDS = {name: words for labels in QUESTIONS.values() for name, words in labels.items()}
_CALLED = {True: "positive", False: "negative"}


def exam_model_block(
    model: "ExamModel", answer: "ExamAnswer", positive: bool | None
) -> dict[str, Any]:
    """The block ``exam_model`` of a report.

    Args:
        positive: the verdict of the report, which the answer may contradict.
    """
    known = answer.called is not None and positive is not None
    per_step = answer.step_probability
    unknown: list[float | None] = [None] * len(answer.slices)
    steps = zip(answer.slices, answer.z_mm, unknown if per_step is None else per_step, strict=True)
    return {
        "model": {**model.lineage, "device": model.device.type, "precision": model.precision},
        "threshold": model.threshold,
        "calibration": {
            "slope": model.calibration.slope,
            "intercept": model.calibration.intercept,
            "fitted": not model.calibration.kept,
        },
        "reason": answer.reason or None,
        "probability": answer.calibrated,
        "score": answer.positive,
        "positive": answer.called,
        "agrees": answer.called == positive if known else None,
        "labels": dict(answer.labels),
        "as_answered": dict(answer.probability),
        "faults": list(answer.faults),
        "notes": list(answer.notes),
        "steps": [
            {"slice": index, "z_mm": z_mm, "probability": probability}
            for index, z_mm, probability in steps
        ],
        "attention": {
            name: [round(float(weight), 6) for weight in row]
            for name, row in answer.attention.items()
        },
    }


def exam_call_in_words(block: Mapping[str, Any]) -> str:
    """The exam model's call, or the reason why there is none; one line."""
    if block["reason"] is not None:
        return f"no answer: {block['reason']}"
    if block["score"] is None:
        return "it does not answer whether there is embolism"
    score = f"score {score_text(block['score'])}"
    if block["positive"] is None:
        return f"not called, as no threshold is set ({score})"
    threshold = score_text(block["threshold"])
    return f"called {_CALLED[block['positive']]} ({score}, called positive from {threshold})"


def disagreement(report: Mapping[str, Any]) -> str:
    """States that the exam model's call differs from the verdict; empty if they agree; one line."""
    block = report["exam_model"]
    if block is None or block["agrees"] is not False:
        return ""
    return (
        f"the exam model calls this exam {_CALLED[block['positive']]}, "
        f"the verdict is {_CALLED[report['exam']['positive']]}; "
        "the verdict follows from slices and lesions alone"
    )


def percent(probability: float) -> str:
    """A probability in percent, never shown as certain."""
    if 0 < probability < 0.01:
        return "<1 %"
    if 0.99 < probability < 1:
        return ">99 %"
    return f"{100 * probability:.0f} %"
