"""Analyse a CT study and write a report.

STUDY is a DICOM folder (mixed series, sub-folders, files without a suffix, gzipped slices), a DICOM
file of one slice or of many (Enhanced CT), a volume file (NIfTI, NRRD, MetaImage), or an archive of
any of them. OUT gets report.json (schema in pe_unified/reports/report.schema.json),
report.html, slices.csv and mask.nii.gz (if the model outlines lesions); for DICOM also
mask.seg.dcm and findings.sr.dcm. These two carry the patient and the study of the CT, so that an
archive files them with it; the others carry UIDs, never a patient's name.

Examples:
  pe-unified infer /data/case7 --checkpoint model.pth --out reports/case7
  pe-unified infer case.zip --checkpoint model.pth --out reports/case --pseudonymise
  pe-unified infer /data/case7 --checkpoint model.pth --exam-checkpoint exam.pth --out reports/case7
  pe-unified infer /data/case7 --checkpoint model.pth --structures masks/case7 --out reports/case7
"""

import argparse
import os
import secrets
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pe_unified.cli.arguments import add_device, add_trust
from pe_unified.command import exit_on_user_error
from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.errors import UserError, counted
from pe_unified.options import BACKENDS, BATCH_SIZE, LUNG_SOURCES, STUDY_ENDINGS, positive
from pe_unified.paths import require_there
from pe_unified.progress import phase, tell

if TYPE_CHECKING:
    from pe_unified.ct.study import CTStudy
    from pe_unified.inference.predictor import PredictorSettings

#: Where the secret of pseudonyms stands; shorter ones can be found by trying.
_KEY, _SHORTEST_KEY = "PE_UNIFIED_KEY", 16
NEW_KEY = f"export {_KEY}=..., at least {_SHORTEST_KEY} characters that nobody can guess"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "study", type=Path, help=f"DICOM folder, DICOM file, or a file ending in {STUDY_ENDINGS}"
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--series", metavar="UID", help="use this series of the folder; UID#2: its acquisition 2"
    )
    parser.add_argument(
        "--study",
        metavar="UID",
        dest="study_uid",
        help="if the folder holds several studies: use this one, by its UID or its patient's ID; "
        "newest: the one with the latest date",
    )
    parser.add_argument(
        "--structures",
        type=Path,
        metavar="PATH",
        help="masks of the ventricles and the pulmonary arteries, for measurements in the report: "
        "the output of TotalSegmentator for this study, a folder of NIfTI files "
        "(heart_ventricle_left.nii.gz, heart_ventricle_right.nii.gz, pulmonary_artery.nii.gz, "
        "lung_arteries.nii.gz) or one label map with its names",
    )
    parser.add_argument(
        "--marks",
        type=Path,
        metavar="FILE",
        help="marks of a 3D model, .csv with id,x,y,z,prob: the UID of the study or its series, "
        "LPS coordinates in mm, a probability; they join the lesions that they touch",
    )
    return parser


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that the commands for one study and for many share."""
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="the trained model, or an ensemble"
    )
    parser.add_argument(
        "--exam-checkpoint",
        type=Path,
        metavar="FILE",
        help="an exam model; the report shows its answers next to the verdict",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--no-gate",
        action="store_true",
        help="segment and detect on every slice, even if classification sees nothing, and skip "
        "no thin slices",
    )
    parser.add_argument(
        "--every-slice",
        action="store_true",
        help="also read slices beyond the lungs, and all thin slices",
    )
    parser.add_argument(
        "--lungs",
        choices=LUNG_SOURCES,
        default="auto",
        help="method that finds the lungs; auto takes the detector if there is one, else lungmask "
        "if it is installed with its weights",
    )
    parser.add_argument(
        "--lung-checkpoint",
        type=Path,
        metavar="FILE",
        help="a lung detector (cascade/lung_detector); slices are cropped to its boxes",
    )
    parser.add_argument(
        "--volume-checkpoint",
        type=Path,
        metavar="FILE",
        help="a volume model (volumes/aanet3d); its marks join the lesions (default: the one in "
        "the ensemble, if there is one)",
    )
    parser.add_argument(
        "--lung-mask", action="store_true", help="also write the lungs, as lungs.nii.gz"
    )
    parser.add_argument(
        "--pseudonymise",
        action="store_true",
        help="replace patient and UIDs; the same PE_UNIFIED_KEY gives the same pseudonyms",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=BATCH_SIZE,
        help=f"slices per pass; default {BATCH_SIZE}; a GPU may be faster with more",
    )
    add_device(parser)
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="torch",
        help="runtime of the network; onnx and openvino need pe-unified export first",
    )
    parser.add_argument(
        "--exported",
        type=Path,
        metavar="DIR",
        help="the exported model; default: beside the checkpoint, named after the backend",
    )
    add_trust(parser)


def predictor_settings(args: argparse.Namespace) -> "PredictorSettings":
    from pe_unified.inference.predictor import PredictorSettings

    return PredictorSettings(
        checkpoint=str(args.checkpoint.resolve()),
        trust=args.trust_checkpoint,
        device=args.device,
        precision=args.precision,
        batch_size=args.batch_size,
        gate=not args.no_gate,
        backend=args.backend,
        exported=args.exported and args.exported.resolve(),
        exam_checkpoint=args.exam_checkpoint and str(args.exam_checkpoint.resolve()),
        lung_checkpoint=args.lung_checkpoint and str(args.lung_checkpoint.resolve()),
        volume_checkpoint=args.volume_checkpoint and str(args.volume_checkpoint.resolve()),
    )


def pseudonym_key() -> str | None:
    """The secret that pseudonyms are made with, from the environment; ends the command where it
    could be guessed."""
    key = os.environ.get(_KEY)
    if key is not None and len(key) < _SHORTEST_KEY:
        sys.exit(f"error: {_KEY} has fewer than {_SHORTEST_KEY} characters; {NEW_KEY}")
    return key


@exit_on_user_error(everything=True)
def main() -> None:
    args = make_parser().parse_args()
    if args.marks and args.volume_checkpoint:
        raise UserError("give either --marks or --volume-checkpoint, the model that makes them")
    require_there(args.study)  # a slip is told before the network is loaded
    from pe_unified.reports.analysis import AnalysisOptions, analyse_study

    # What matters of a header is read and judged here; its other faults are no news to the user.
    warnings.filterwarnings("ignore", module="pydicom")
    console = Console()
    key = (pseudonym_key() or secrets.token_hex(16)) if args.pseudonymise else None
    options = AnalysisOptions(
        series_uid=args.series,
        study_uid=args.study_uid,
        every_slice=args.every_slice,
        pseudonym_key=key,
        lungs_from=args.lungs,
        lung_mask=args.lung_mask,
        structures=args.structures,
        marks=args.marks,
    )
    with phase("loading the model"):
        predictor = predictor_settings(args).predictor(args.marks is not None)
    report = analyse_study(
        args.study,
        args.out,
        predictor,
        options,
        progress=lambda done, total: tell("slices", done, total),
        opened=lambda study: print_study(console, study, key),
    )
    print_report(console, report)
    print(f"report written to {args.out}")


def print_study(console: Console, study: "CTStudy", key: str | None) -> None:
    """Print what was read; with the key of pseudonyms, nothing that identifies the patient."""
    from pe_unified.ct.series import NO_UID
    from pe_unified.reports.report import pseudonymised

    slices, rows, cols = study.shape
    row, col, step = study.known_spacing()
    told: dict[str, Any] = {"series_uid": study.series_uid, "notes": study.notes}
    broken = [str(error) for error in study.broken]
    if key is not None:
        told = pseudonymised(told, key)
        broken = [counted(len(broken), "broken file")] if broken else []
    which = f"series {told['series_uid'] or NO_UID}: " if study.sop_uids else ""
    console.print(
        f"{which}{slices} slices of {rows} x {cols}, {row:.2f} x {col:.2f} x {step:.2f} mm",
        highlight=False,
        soft_wrap=True,
    )
    for note in told["notes"]:
        console.print(f"  {escape(note)}", highlight=False)
    for error in broken:
        console.print(f"  [yellow]left out[/yellow] {escape(error)}", highlight=False)


def print_report(console: Console, report: dict[str, Any]) -> None:
    from pe_unified.evaluation.verdict import score_text
    from pe_unified.reports.report import (
        is_listed,
        reading_in_words,
        span_in_words,
        verdict_in_words,
    )

    for flag in report["quality"]["flags"]:
        value = "" if flag["value"] is None else f"{flag['value']:g} {flag['unit']}".strip()
        measured = f" ({value})" if value else ""
        colour = "red" if flag["abstain"] else "yellow"
        console.print(f"[{colour}]{flag['name']}[/{colour}]: {flag['reason']}{measured}")
    if report["quality"]["abstain"]:
        console.print("[red]do not rely on the scores below[/red]")
    exam = report["exam"]
    if report["model"]["training_notice"]:
        console.print(f"[red]this model: {report['model']['training_notice']}[/red]")
    scores = [
        f"{name} {score_text(exam[key])}"
        + ("" if exam[limit] is None else f" (from {score_text(exam[limit])})")
        for name, key, limit in (
            ("stretch", "probability", "threshold"),
            ("lesion", "lesion_score", "lesion_threshold"),
        )
        if exam[key] is not None
    ]
    console.print(f"{verdict_in_words(report)}; {', '.join(scores)}", highlight=False)
    _print_exam_answer(console, report)
    listed = [lesion for lesion in report["lesions"] if is_listed(lesion)]
    table = Table(title=counted(len(listed), "lesion"))
    for name in ("", "score", "slices", "side", "level (guess)", "ml", "mm", "HU"):
        table.add_column(name, justify="right")
    for lesion in listed[:20]:
        table.add_row(
            str(lesion["number"]),
            score_text(lesion["score"]),
            span_in_words(lesion),
            lesion["side"],
            lesion["level_guess"],
            *(
                "" if lesion[key] is None else f"{lesion[key]:.{digits}f}"
                for key, digits in (("volume_ml", 2), ("largest_diameter_mm", 0), ("mean_hu", 0))
            ),
        )
    if listed:
        console.print(table)
    _print_measurements(console, report)
    candidates = len(report["lesions"]) - len(listed)
    if candidates:
        console.print(f"{counted(candidates, 'candidate')}, not called", highlight=False)
    if report["reading"]["passed_over"]:
        console.print(f"slices: {reading_in_words(report)}", highlight=False)
    seconds = report["seconds"]
    stages = ", ".join(f"{k} {v:.1f}" for k, v in seconds.items() if k != "total")
    console.print(f"{seconds['total']:.1f} s ({stages}). {RESEARCH_LINE}.", highlight=False)


def _print_measurements(console: Console, report: dict[str, Any]) -> None:
    """What is measured in masks of structures, where they were given."""
    from pe_unified.reports.measurements import obstruction_in_words, ratio_in_words

    if report["measurements"]["structures"]:
        console.print(f"RV/LV: {ratio_in_words(report)}", highlight=False)
        console.print(f"arteries: {obstruction_in_words(report)}", highlight=False)


def _print_exam_answer(console: Console, report: dict[str, Any]) -> None:
    """What the exam model says, where there is one."""
    from pe_unified.reports.exam_block import WORDS, disagreement, exam_call_in_words, percent

    block = report["exam_model"]
    if block is None:
        return
    if block["model"]["training_notice"]:
        console.print(f"[red]the exam model: {block['model']['training_notice']}[/red]")
    console.print(f"the exam model: {exam_call_in_words(block)}", highlight=False)
    said = [
        f"{WORDS[name]} {percent(value)}"
        for name, value in block["labels"].items()
        if value is not None and value > 0.5
    ]
    if said:
        console.print(f"  {', '.join(said)}", highlight=False)
    if disagreement(report):
        console.print(f"[yellow]{disagreement(report)}[/yellow]", highlight=False)
