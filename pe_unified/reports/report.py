"""The report of a study as data: the content of ``report.json`` (see ``report.schema.json``)."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pe_unified.ct.series import NO_UID
from pe_unified.ct.study import CTStudy
from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.errors import counted
from pe_unified.evaluation.exam_score import HEIGHT_MM
from pe_unified.evaluation.verdict import CLOT_HU, CLOT_SHARE, Verdict
from pe_unified.inference.lesions import Lesion
from pe_unified.inference.quality import Flag
from pe_unified.inference.slice_prediction import SlicePrediction
from pe_unified.inference.survey import Survey
from pe_unified.reports.exam_block import exam_model_block
from pe_unified.tasks import look_for_lesions
from pe_unified.version import __version__

if TYPE_CHECKING:
    from pe_unified.inference.exam import ExamAnswer
    from pe_unified.inference.model import Model
    from pe_unified.inference.predictor import StudyPredictor

SCHEMA_VERSION = "1.10"
#: How the notes of a study refer to a series.
_SERIES = re.compile(r"\bseries ([^\s,:(#]+)")


def build_report(
    study: CTStudy,
    survey: Survey,
    flags: Sequence[Flag],
    predictions: Sequence[SlicePrediction],
    lesions: Sequence[Lesion],
    verdict: Verdict,
    predictor: "StudyPredictor",
    settings: Mapping[str, Any],
    measurements: Mapping[str, Any],
    answer: "ExamAnswer | None" = None,
) -> dict[str, Any]:
    """The whole report of a study except the run times. It holds no file name and no patient,
    only UIDs. The verdict is not decided here.

    Args:
        measurements: from :func:`~pe_unified.reports.measurements.measure`.
        answer: of the predictor's exam model, if there is one.
    """
    model = predictor.model
    members = [member.name for member in model.members]
    return {
        "schema": "pe_unified.report",
        "schema_version": SCHEMA_VERSION,
        "notice": RESEARCH_LINE,
        "software": {"name": "pe_unified", "version": __version__},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": _input(study),
        "model": describe_model(predictor),
        "settings": dict(settings),
        "thresholds": asdict(model.thresholds)
        | {
            "pixel": predictor.pixel_threshold if "seg" in model.tasks else None,
            "box": predictor.box_threshold if "det" in model.tasks else None,
        },
        "quality": {
            "abstain": any(flag.abstain for flag in flags),
            "flags": [_flag(flag) for flag in flags],
        },
        "lungs": {
            "found": survey.lungs is not None,
            "first_slice": survey.slices.start,
            "last_slice": survey.slices.stop - 1,
            "box": None if survey.box is None else list(survey.box),
        },
        "reading": _reading(predictions),
        "exam": _exam(verdict, predictions, model),
        "exam_model": None
        if predictor.exam_model is None or answer is None
        else exam_model_block(predictor.exam_model, answer, verdict.positive),
        "measurements": dict(measurements),
        "lesions": [lesion_entry(lesion, study, members) for lesion in lesions],
        "slices": _slices(study, predictions, lesions, verdict),
    }


def looks_for_lesions(report: Mapping[str, Any]) -> bool:
    """Whether the model of a report outlines lesions or draws boxes around them."""
    return look_for_lesions(report["model"]["tasks"])


def is_listed(lesion: Mapping[str, Any]) -> bool:
    """Whether a lesion of a report is a finding: it is called, or there is no threshold."""
    return lesion["called"] is not False


def span_in_words(part: Mapping[str, Any]) -> str:
    """The slices of a lesion or stretch of a report, such as ``12 to 15``, or ``12`` alone."""
    first, last = part["first_slice"], part["last_slice"]
    return str(first) if first == last else f"{first} to {last}"


def verdict_in_words(report: Mapping[str, Any]) -> str:
    """The findings that are called, or that there are none; one line."""
    exam = report["exam"]
    if exam["positive"] is None:
        return "not called: no threshold is set"
    if not exam["positive"]:
        return "called negative: nothing is called"
    stretches = [span_in_words(each) for each in exam["stretches"]]
    called = sum(lesion["called"] is True for lesion in report["lesions"])
    reasons = [counted(called, "lesion")] if called else []
    if stretches:
        alone = len(stretches) == 1 and stretches[0].isdigit()
        reasons.append(f"slice{'' if alone else 's'} {', '.join(stretches)}")
    return f"called positive: {' and '.join(reasons)}"


def reading_in_words(report: Mapping[str, Any]) -> str:
    """How many slices were looked at, and why others were skipped; one line."""
    reading = report["reading"]
    if not reading["passed_over"]:
        return f"{reading['looked_at']} looked at, none between them skipped"
    ranges = [
        span_in_words(each) + (f" every {each['every']}" if each["every"] > 1 else "")
        for each in reading["ranges"]
    ]
    return (
        f"{reading['looked_at']} looked at ({', '.join(ranges)}); {reading['passed_over']} thin "
        "slices between them skipped, because no slice beside them reached the coarse gate or "
        "showed a lesion"
    )


def series_name(report: Mapping[str, Any]) -> str | None:
    """What ``open_study`` takes as ``series_uid`` to give the slices of a report."""
    given = report["input"]
    number = given.get("acquisition")  # absent in older reports
    return given["series_uid"] if number is None else f"{given['series_uid'] or NO_UID}#{number}"


def _input(study: CTStudy) -> dict[str, Any]:
    row, col, step = study.spacing_mm
    acquisition = study.series.partition("#")[2]
    notes = list(study.notes)
    if study.missing_slices or study.uneven_steps:
        notes.append("mask.nii.gz assumes evenly spaced slices; these are unevenly spaced")
    return {
        "kind": "volume file" if study.grid is not None else "DICOM",
        "study_uid": study.study_uid or None,
        "series_uid": study.series_uid or None,
        "acquisition": int(acquisition) if acquisition else None,
        "slices": study.shape[0],
        "rows": study.shape[1],
        "cols": study.shape[2],
        "spacing_mm": {"row": row, "col": col, "slice": step},
        "notes": notes,
    }


def describe_model(predictor: "StudyPredictor") -> dict[str, Any]:
    """The report's description of the model and of how it runs."""
    model = predictor.model
    return {
        **model.lineage,
        "device": model.device.type,
        "backend": model.backend,
        "precision": model.precision,
        "int8": list(model.int8),
        "gated": predictor.gate is not None,
        "ensemble": model.composition,
        "lung_detector": predictor.lungs and predictor.lungs.lineage,
        "volume_model": predictor.volume_model and predictor.volume_model.lineage,
        "lesion_fusion": None
        if model.fusion is None
        else {
            "answers": [term.answer for term in model.fusion.terms],
            "lesions": model.fusion.lesions,
            "true": model.fusion.true,
        },
    }


def _flag(flag: Flag) -> dict[str, Any]:
    values = asdict(flag)
    if flag.value is not None:
        values["value"] = round(flag.value, 3)
    return values


def _reading(predictions: Sequence[SlicePrediction]) -> dict[str, Any]:
    """The slices that were looked at, as few ranges with a constant step."""
    looked_at = [each.index for each in predictions if each.looked_at]
    ranges: list[dict[str, int]] = []
    for index in looked_at:
        last = ranges[-1] if ranges else {}
        alone = last.get("first_slice") == last.get("last_slice")
        if last and (alone or index - last["last_slice"] == last["every"]):
            last |= {"last_slice": index, "every": index - last["last_slice"]}
        else:
            ranges.append({"first_slice": index, "last_slice": index, "every": 1})
    return {
        "looked_at": len(looked_at),
        "passed_over": len(predictions) - len(looked_at),
        "ranges": ranges,
    }


def _exam(
    verdict: Verdict, predictions: Sequence[SlicePrediction], model: "Model"
) -> dict[str, Any]:
    thresholds, kinds = model.thresholds, []
    if "cls" in model.tasks and thresholds.exam is not None:
        kinds.append(f"a stretch of {HEIGHT_MM:g} mm, by the mean probability of its slices")
        if not all(each.looked_at for each in predictions):
            kinds[-1] += ", on a straight line between those that were looked at"
    if model.looks_for_lesions and thresholds.lesion is not None:
        (low, high), share = CLOT_HU, 100 * CLOT_SHARE
        kinds.append(
            f"a lesion, by its score, if its mean (without a mask, {share:g} % of its boxes and "
            f"marks) is "
            f"{low:g} to {high:g} HU"
        )
    rule = "nothing can be called: no threshold is set"
    if kinds:
        rule = f"positive if anything is called: {', or '.join(kinds)}"
    return {
        "probability": verdict.stretch_score,
        "threshold": thresholds.exam,
        "lesion_score": verdict.lesion_score,
        "lesion_threshold": thresholds.lesion,
        "positive": verdict.positive,
        "stretches": [
            {"first_slice": predictions[first].index, "last_slice": predictions[last].index}
            for first, last in verdict.stretches
        ],
        "rule": f"{rule}; scores rank, they are not calibrated",
    }


def lesion_entry(lesion: Lesion, study: CTStudy, members: Sequence[str] = ()) -> dict[str, Any]:
    """The report's entry for a lesion.

    Args:
        members: names of the networks of an ensemble.
    """
    found_by = None
    if lesion.found_by is not None:
        found_by = [members[number] for number in lesion.found_by]
    return {
        "number": lesion.number,
        "called": lesion.called,
        "can_be_clot": lesion.can_be_clot,
        "score": _rounded(lesion.score),
        "mask_score": _rounded(lesion.mask_score),
        "box_score": _rounded(lesion.box_score),
        "mark_score": _rounded(lesion.mark_score),
        "slice_score": _rounded(lesion.slice_score),
        "found_by": found_by,
        "first_slice": lesion.slices[0],
        "last_slice": lesion.slices[1],
        "key_slice": lesion.key_slice,
        "key_sop_uid": _sop_uid(study, lesion.key_slice),
        "box": [round(edge, 1) for edge in lesion.box],
        "centroid_mm": dict(
            zip("xyz", (round(value, 2) for value in lesion.centroid_mm), strict=True)
        ),
        "side": lesion.side,
        "level_guess": lesion.level,
        "volume_ml": _rounded(lesion.volume_ml),
        "largest_diameter_mm": _rounded(lesion.diameter_mm, 1),
        "mean_hu": _rounded(lesion.mean_hu, 1),
    }


def _slices(
    study: CTStudy,
    predictions: Sequence[SlicePrediction],
    lesions: Sequence[Lesion],
    verdict: Verdict,
) -> list[dict[str, Any]]:
    """One entry per slice of the study; null if the network did not look at it."""
    seen = {prediction.index: prediction for prediction in predictions}
    called = _called_slices(predictions, lesions, verdict)
    pixels: dict[int, int] = defaultdict(int)
    boxes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for lesion in lesions:
        for index, own in lesion.pixels.items():
            pixels[index] += len(own) if lesion.listed else 0
        for index, box, score in lesion.boxes:
            edges = [round(edge, 1) for edge in box]
            entry = {"box": edges, "score": _rounded(score), "lesion": lesion.number}
            boxes[index].append(entry)
    entries = []
    for index in range(len(study)):
        found = seen.get(index)
        entries.append(
            {
                "index": index,
                "sop_uid": _sop_uid(study, index),
                "frame": study.frames[index] if study.frames else None,
                "z_mm": study.z_mm[index],
                "probability": None if found is None else _rounded(found.probability),
                "examined": found is not None and found.examined,
                "called": None if verdict.positive is None else index in called,
                "embolus_pixels": pixels[index],
                "boxes": boxes[index],
            }
        )
    return entries


def _called_slices(
    predictions: Sequence[SlicePrediction], lesions: Sequence[Lesion], verdict: Verdict
) -> set[int]:
    """Slices of a called stretch or of a called lesion."""
    stretches = (predictions[first : last + 1] for first, last in verdict.stretches)
    called = {each.index for stretch in stretches for each in stretch}
    for lesion in lesions:
        if lesion.called:
            called.update(range(lesion.slices[0], lesion.slices[1] + 1))
    return called


def _sop_uid(study: CTStudy, index: int) -> str | None:
    return study.sop_uids[index] or None if study.sop_uids else None


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(float(value), digits)


def pseudonymised(value: Any, key: str, name: str = "") -> Any:
    """A report with every UID replaced by another, the same for the same UID and key.

    Args:
        value: a report, or a part of one.
        key: a secret, so that nobody can find the original UIDs by trying them.
        name: of the field that holds ``value``.
    """
    if isinstance(value, Mapping):
        return {field: pseudonymised(item, key, field) for field, item in value.items()}
    if isinstance(value, list | tuple):
        return [pseudonymised(item, key, name) for item in value]
    if isinstance(value, str) and name.endswith("_uid"):
        return pseudonym(value, key)
    if isinstance(value, str) and name == "notes":
        return _SERIES.sub(lambda found: f"series {pseudonym(found[1], key)}", value)
    return value


def pseudonym(uid: str, key: str) -> str:
    """A valid UID (2.25, a 128-bit number) that replaces another one."""
    digest = hashlib.blake2b(uid.encode(), digest_size=16, key=key.encode()[:64]).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"
