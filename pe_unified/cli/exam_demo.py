"""The four exam systems on synthetic exams: paint, convert, train, publish, report on one study.

Each stage is a command, printed before it runs; the same commands work on real data. Finished
stages are not repeated, so the demo can be run again or resumed.
"""

import argparse
import json
import time
from pathlib import Path

from pe_unified.cli import demo_stages as stages
from pe_unified.command import exit_on_user_error
from pe_unified.options import positive

#: What is painted and trained where the command line does not say.
USUAL = {
    "name": "exam_demo",
    "recipe": "demo/exams",
    "studies": 150,
    "size": 128,
    "slices": 40,
    "seconds": (35, 15, 5, 330, 10, 10, 10),
}
#: The steps whose models answer for a study: the slices of it, and the whole.
SLICES, EXAM = "slices_maximum", "winner"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=positive, help="number of exams (default: 150)")
    stages.add_arguments(parser, USUAL)
    return parser


@exit_on_user_error(goes_on="run the same command again to continue")
def main() -> None:
    args = make_parser().parse_args()
    stages.choose(args, USUAL)
    start = time.monotonic()
    exams = ("--preset", "exams")
    raw, converted = stages.paint_and_convert(args, "rsna", args.studies, 5, *exams)
    stages.verify(args, converted)
    summary = stages.train(args, converted)
    steps = {step["name"]: step for step in summary["steps"]}
    models = {name: args.work_dir / f"{name}.pth" for name in (SLICES, EXAM)}
    for name, model in models.items():
        stages.publish(args, steps[name], model, converted)
    words = ("--checkpoint", models[SLICES], "--exam-checkpoint", models[EXAM])
    page = stages.infer(args, _test_study(converted, raw), *words)
    stages.tell(args, summary, page, start)


def _test_study(converted: Path, raw: Path) -> Path:
    """The raw slices of a positive exam that no step was trained on."""
    content = json.loads((converted / "annotations/test.json").read_text(encoding="utf-8"))
    exams = content["exams"]
    positive = [e for e in exams if not (e["negative_exam_for_pe"] or e["indeterminate"])]
    return raw / "train" / min(each["study_uid"] for each in positive or exams)
