"""The errors of a model as a page with links to their slices, and as JSON."""

from pathlib import Path
from typing import Any

from pe_unified.converters.contract.schema import folder_name
from pe_unified.datasets import PESliceDataset
from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.errors import UserError
from pe_unified.evaluation.figures import overlay_figure
from pe_unified.files import write_text
from pe_unified.inference.converted import TRUE_SHARE, whole_exams
from pe_unified.inference.predictor import PredictorSettings
from pe_unified.json_files import write_json
from pe_unified.paths import require_apart
from pe_unified.progress import track
from pe_unified.review.model_errors import Finding, judge_exam, summarise
from pe_unified.templates import render

#: In the order of the page: missed findings come first.
_KINDS = {
    "missed": "emboli missed",
    "false": "false lesions",
    "missed exam": "exams missed",
    "false exam": "negative exams called positive",
}


def write_errors(
    model: PredictorSettings, data_root: Path, out: Path, split: str = "test", most: int = 200
) -> dict[str, Any]:
    """Analyse the studies of a split; write ``index.html``, ``errors.json`` and ``slices``.

    Args:
        model: the model and how to run it.
        data_root: a converted set.
        out: folder of the page.
        split: of the set.
        most: maximum number of images per kind of error; further errors are listed without one.

    Returns:
        The content of ``errors.json``.

    Raises:
        CheckpointError: the model cannot be loaded.
        UserError: nothing in the split can be judged.
    """
    require_apart(out, data_root)
    annotations = f"annotations/{split}.json"
    dataset = PESliceDataset(annotations, str(data_root), pipeline=(), test_mode=True)
    exams = whole_exams(dataset)
    if not exams:
        raise UserError(
            f"{data_root}: no study of {split} is complete and labelled; choose --split"
        )
    predictor = model.predictor()
    findings: list[Finding] = []
    errors: list[dict[str, Any]] = []
    pictures = dict.fromkeys(_KINDS, 0)
    for exam in track(exams, "reading studies"):
        for each, view in judge_exam(predictor, exam):
            findings.append(each)
            if each.kind == "found":
                continue
            name = None
            if pictures[each.kind] < most:
                pictures[each.kind] += 1
                name = f"{folder_name(each.patient)}_{each.slice_index:04d}_{len(errors)}.png"
                overlay_figure(view, out / "slices" / name)
            errors.append({**each.as_dict(), "picture": name and f"slices/{name}"})
    lineage = predictor.model.lineage
    found = {
        "notice": RESEARCH_LINE,
        "training": lineage["training_notice"],
        "model": lineage["sha256"],
        "split": split,
        "exams": len(exams),
        "lesion_threshold": predictor.model.thresholds.lesion,
        "summary": summarise(findings, len(exams)),
        "errors": sorted(errors, key=_order),
    }
    write_json(out / "errors.json", found)
    page = render(
        "review/errors.html",
        title=f"Errors of {Path(model.checkpoint).name} on {Path(data_root).name}, {split}",
        found=found,
        notice=found["notice"],
        kinds=_KINDS,
        true_share=TRUE_SHARE,
        filters=("size", "side", "level", "contrast"),
    )
    write_text(out / "index.html", page)
    return found


def _order(error: dict[str, Any]) -> tuple[int, float, str]:
    """Sort key: kinds as on the page; largest misses and most confident errors first."""
    rank = error["volume_ml"] if error["kind"] == "missed" else error["score"]
    return list(_KINDS).index(error["kind"]), -(rank or 0.0), error["file"]
