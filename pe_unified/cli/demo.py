"""The workflow on synthetic studies: paint, convert, merge, verify, train, publish, report.

Each stage is a command, printed before it runs; the same commands work on
real data. Finished stages are not repeated, so the demo can be run again or resumed.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

from pe_unified.cli import demo_stages as stages
from pe_unified.command import exit_on_user_error
from pe_unified.options import positive

#: What is painted and trained where the command line does not say.
QUICK = {
    "name": "demo",
    "recipe": "demo/steps",
    "studies": (24, 8),
    "size": 192,
    "slices": 48,
    "seconds": (14, 5, 8, 3, 1, 2, 100, 12, 11),
}
COMPARISON = {
    "name": "comparison",
    "recipe": "demo/comparison",
    "studies": (56, 24),
    "size": 256,
    "slices": 64,
    "seconds": (80, 25, 35, 10, 2, 5, 20, 1320, 30, 15),
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--comparison",
        action="store_true",
        help="compare reuse with training from scratch: all nine steps and their controls on more "
        "and larger studies; takes much longer. The defaults are then --studies {} {} "
        "--size {size} --slices {slices} --recipe {recipe} --data data/{name} "
        "--work-dir work_dirs/{name}".format(*COMPARISON["studies"], **COMPARISON),
    )
    parser.add_argument(
        "--studies",
        type=positive,
        nargs=2,
        metavar=("FUMPE", "RSNA"),
        help="number of studies in each layout: with masks, and with slice labels only "
        "(default: 24 8)",
    )
    stages.add_arguments(parser, QUICK)
    return parser


@exit_on_user_error(goes_on="run the same command again to continue")
def main() -> None:
    args = make_parser().parse_args()
    stages.choose(args, COMPARISON if args.comparison else QUICK)
    start = time.monotonic()
    truth = ["--truth"] if args.comparison else []
    fumpe, rsna = args.studies
    painted = [
        stages.paint_and_convert(args, "fumpe", fumpe, 1, *truth),
        stages.paint_and_convert(args, "rsna", rsna, 2, "--positive-rate", "0.6", *truth),
    ]
    sets = [converted for _, converted in painted]
    merged, outdated = args.data / "pe", args.data / ".pe.outdated"
    shutil.rmtree(outdated, ignore_errors=True)
    if stages.is_outdated(merged / "conversion_report.json", sets):
        merged.rename(outdated)  # so that a run that is killed here leaves no half of a set
        shutil.rmtree(outdated)
    merge = ["merge", *sets, "--out", merged]
    stages.run(args, "Merge both sets, splits kept", merge, done=merged)
    stages.verify(args, merged)
    if args.comparison:
        threshold = args.work_dir / "threshold.json"
        if stages.is_outdated(threshold, [merged]):
            threshold.unlink()
        baseline = ["baseline", merged, "--out", threshold, "--truth"]
        baseline += [raw / "truth" for raw, _ in painted]
        stages.run(args, "A plain HU threshold, for comparison", baseline, done=threshold)
    summary = stages.train(args, merged)
    model = args.work_dir / "model.pth"
    stages.publish(args, summary["steps"][-1], model, merged)
    page = stages.infer(args, _test_study(args.data), "--checkpoint", model)
    stages.tell(args, summary, page, start)


def _test_study(data: Path) -> Path:
    """The raw slices of a patient that no step was trained on."""
    file = data / "fumpe" / "annotations" / "test.json"
    images = json.loads(file.read_text(encoding="utf-8"))["images"]
    return data / "raw" / "fumpe" / "CT_scans" / min(image["patient_id"] for image in images)
