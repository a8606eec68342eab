"""The four exam systems on painted exams: paint, convert, train, publish, report on one study.

Each stage is a command, printed before it runs; the same commands work on real data. Every stage
keeps what it finished before, so the demo can be repeated or resumed.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

from pe_unified.cli.demo import NOTE, SPLIT, publish, report, run
from pe_unified.command import exit_on_user_error
from pe_unified.options import positive
from pe_unified.workers import usable_cores

#: The steps whose models answer for a study: the slices of it, and the whole.
SLICES, EXAM = "slices_maximum", "winner"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data/exam_demo"),
        help="exams and slices; default: data/exam_demo",
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("work_dirs/exam_demo"),
        help="results; default: work_dirs/exam_demo",
    )
    parser.add_argument("--recipe", default="demo/exams", help="other steps to train")
    parser.add_argument("--studies", type=positive, default=150, help="painted exams (150)")
    parser.add_argument(
        "--size", type=positive, default=128, help="rows and columns of a slice (128)"
    )
    parser.add_argument("--slices", type=positive, default=40, help="slices of an exam (40)")
    parser.add_argument(
        "--workers",
        type=positive,
        default=min(usable_cores(), 4),
        help="processes that paint and convert, and steps trained at a time; by default one per "
        "core, at most 4",
    )
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], help="override settings in every step"
    )
    return parser


@exit_on_user_error(goes_on="run the same command again to continue")
def main() -> None:
    args = make_parser().parse_args()
    start = time.monotonic()
    raw, converted = args.data / "raw", args.data / "rsna"
    workers = ["--workers", str(args.workers)]
    paint = ["phantom", raw, "--layout", "rsna", "--preset", "exams", "--seed", "5", *workers]
    paint += ["--studies", str(args.studies), "--size", str(args.size)]
    paint += ["--slices", str(args.slices)]
    run(f"Paint {args.studies} exams in the rsna layout", paint)
    run("Convert", ["convert", "rsna", raw, converted, "--split", *SPLIT, *workers])
    verified = args.data / "rsna.verified"
    if run("Verify", ["verify", converted], done=verified):
        verified.touch()
    train = ["steps", args.recipe, "--data-root", converted, "--work-dir", args.work_dir]
    train += ["--note", NOTE, "--jobs", str(args.workers)]
    if args.cfg_options:
        train += ["--cfg-options", *args.cfg_options]
    run("Train and test every step", train)
    summary = json.loads((args.work_dir / "summary.json").read_text(encoding="utf-8"))
    steps = {step["name"]: step for step in summary["steps"]}
    models = {name: args.work_dir / f"{name}.pth" for name in (SLICES, EXAM)}
    made = [publish(args.work_dir, steps[name], models[name], converted) for name in models]
    page = args.work_dir / "report" / "report.html"
    if any(made):
        shutil.rmtree(page.parent, ignore_errors=True)
    infer = ["infer", _test_study(converted, raw), "--out", page.parent]
    infer += ["--checkpoint", models[SLICES], "--exam-checkpoint", models[EXAM]]
    run("From an exam of the test split to a report", infer, done=page)
    report(args.work_dir, summary, page, time.monotonic() - start, args.workers)


def _test_study(converted: Path, raw: Path) -> Path:
    """The raw slices of a positive exam that no step was trained on."""
    content = json.loads((converted / "annotations/test.json").read_text(encoding="utf-8"))
    exams = content["exams"]
    positive = [e for e in exams if not (e["negative_exam_for_pe"] or e["indeterminate"])]
    return raw / "train" / min(each["study_uid"] for each in positive or exams)
