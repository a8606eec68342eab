"""The whole way on painted studies: paint, convert, merge, verify, train in steps, publish, report.

Each stage is a command, printed before it runs; the same commands work on
real data. Every stage keeps what it finished before, so the demo can be repeated or resumed.
"""

import argparse
import json
import resource
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pe_unified.command import exit_on_user_error
from pe_unified.options import positive
from pe_unified.workers import run_command, usable_cores

SPLIT = ("0.6", "0.15", "0.25")
#: What is painted and trained where the command line does not say.
QUICK = {"name": "demo", "recipe": "demo/steps", "studies": (24, 8), "size": 192, "slices": 48}
COMPARISON = {
    "name": "comparison",
    "recipe": "demo/comparison",
    "studies": (56, 24),
    "size": 256,
    "slices": 64,
}
NOTE = "Synthetic data: painted phantoms, no patient."

console = Console(highlight=False)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="studies and slices; default: data/demo")
    parser.add_argument("--work-dir", type=Path, help="results; default: work_dirs/demo")
    parser.add_argument(
        "--comparison",
        action="store_true",
        help="all nine steps and their controls on more and larger studies, for the comparison of "
        "reuse with training from scratch; much longer",
    )
    parser.add_argument("--recipe", help="other steps to train")
    parser.add_argument(
        "--studies",
        type=positive,
        nargs=2,
        metavar=("FUMPE", "RSNA"),
        help="studies painted in each layout: with masks, and with slice labels only",
    )
    parser.add_argument("--size", type=positive, help="rows and columns of a slice")
    parser.add_argument("--slices", type=positive, help="slices of a study")
    parser.add_argument(
        "--workers",
        type=positive,
        default=min(usable_cores(), 4),
        help="processes that paint and convert, and steps trained at a time; by default one per "
        "core, at most 4 (each takes 1.5 GiB)",
    )
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], help="override settings in every step"
    )
    return parser


def run(title: str, command: Sequence[str | Path], done: Path | None = None) -> bool:
    """Run one stage, unless what it leaves is there already; whether it ran."""
    if done is not None and done.exists():
        console.print(f"[dim]{title}: done before[/dim]")
        return False
    words = [str(word) for word in command]
    console.print(f"\n[bold]{title}[/bold]")
    console.print(f"$ pe-unified {shlex.join(words)}", style="dim", markup=False, soft_wrap=True)
    start = time.monotonic()
    status = run_command([sys.executable, "-m", "pe_unified", *words])
    if status:
        console.print(f"[red]{title} stopped with status {status}; fix it and run again[/red]")
        sys.exit(status)
    console.print(f"[dim]{time.monotonic() - start:.0f} s[/dim]")
    return True


@exit_on_user_error(goes_on="run the same command again to continue")
def main() -> None:
    args = make_parser().parse_args()
    usual = COMPARISON if args.comparison else QUICK
    for name in ("recipe", "studies", "size", "slices"):
        setattr(args, name, getattr(args, name) or usual[name])
    args.data = args.data or Path("data", usual["name"])
    args.work_dir = args.work_dir or Path("work_dirs", usual["name"])
    start = time.monotonic()
    sets = []
    fumpe, rsna = args.studies
    for layout, studies, seed, extra in (
        ("fumpe", fumpe, "1", ()),
        ("rsna", rsna, "2", ("--positive-rate", "0.6")),
    ):
        raw, converted = args.data / "raw" / layout, args.data / layout
        paint = ["phantom", raw, "--layout", layout, "--seed", seed]
        paint += ["--studies", str(studies), "--size", str(args.size), *extra]
        paint += ["--slices", str(args.slices), "--workers", str(args.workers)]
        paint += ["--truth"] if args.comparison else []
        run(f"Paint {studies} studies in the {layout} layout", paint)
        convert = ["convert", layout, raw, converted]
        convert += ["--workers", str(args.workers), "--split", *SPLIT]
        run(f"Convert {layout}", convert)
        sets.append(converted)
    merged = args.data / "pe"
    merge = ["merge", *sets, "--out", merged]
    if _outdated(merged / "conversion_report.json", sets):
        shutil.rmtree(merged)
    run("Merge both sets, splits kept", merge, done=merged)
    verified = args.data / "pe.verified"
    threshold = args.work_dir / "threshold.json"
    for made in (verified, threshold):
        if _outdated(made, [merged]):
            made.unlink()
    if run("Verify", ["verify", merged], done=verified):
        verified.touch()
    if args.comparison:
        truth = (args.data / "raw" / layout / "truth" for layout in ("fumpe", "rsna"))
        baseline = ["baseline", merged, "--out", threshold, "--truth", *truth]
        run("A plain HU threshold, for comparison", baseline, done=threshold)
    train = ["steps", args.recipe, "--data-root", merged]
    train += ["--work-dir", args.work_dir, "--note", NOTE]
    train += ["--jobs", str(args.workers)]
    if args.cfg_options:
        train += ["--cfg-options", *args.cfg_options]
    import torch

    from pe_unified.precision import cpu_has_bfloat16

    if not (torch.cuda.is_available() or cpu_has_bfloat16()):
        console.print(
            "\nThis CPU does not compute in bfloat16. Training is in float32 and takes two to "
            "three times as long (docs/demo.md)."
        )
    run("Train and test every step", train)
    summary = json.loads((args.work_dir / "summary.json").read_text(encoding="utf-8"))
    model = args.work_dir / "model.pth"
    if publish(args.work_dir, summary["steps"][-1], model, merged):
        shutil.rmtree(args.work_dir / "report", ignore_errors=True)
    page = args.work_dir / "report" / "report.html"
    study = _test_study(args.data)
    infer = ["infer", study, "--checkpoint", model, "--out", page.parent]
    run(f"From a study of the test split to a report: {study.name}", infer, done=page)
    report(args.work_dir, summary, page, time.monotonic() - start, args.workers)


def publish(work_dir: Path, step: Mapping[str, Any], model: Path, data: Path) -> bool:
    """Publish the checkpoint of a step, unless that was done since it was trained; whether it was.

    Args:
        work_dir: of the recipe.
        step: its entry in ``summary.json``.
        model: the file to write.
        data: the converted set, on whose validation split thresholds are fixed.
    """
    checkpoint = work_dir / step["checkpoint"]
    if model.is_file() and model.stat().st_mtime_ns < checkpoint.stat().st_mtime_ns:
        model.unlink()
    config = checkpoint.with_name(Path(step["config"]).name)
    command = ["publish", config, checkpoint, model, "--data-root", data]
    return run(f"Publish {step['name']}", command, done=model)


def _test_study(data: Path) -> Path:
    """The raw slices of a patient that no step was trained on."""
    file = data / "fumpe" / "annotations" / "test.json"
    images = json.loads(file.read_text(encoding="utf-8"))["images"]
    return data / "raw" / "fumpe" / "CT_scans" / min(image["patient_id"] for image in images)


def _outdated(made: Path, sets: Sequence[Path]) -> bool:
    """Whether one of the data sets that ``made`` rests on changed since."""
    return made.is_file() and made.stat().st_mtime_ns < max(_changed(folder) for folder in sets)


def _changed(data: Path) -> int:
    """When a data set changed last: report, annotations, or slices, put in or taken out; ns."""
    paths = [data / "images"]
    for pattern in ("*.json", "annotations/*.json", "images/**/*"):
        paths += data.glob(pattern)
    return max(path.stat().st_mtime_ns for path in paths)


def report(
    work_dir: Path, summary: Mapping[str, Any], page: Path, seconds: float, jobs: int
) -> None:
    slowest = max(summary["steps"], key=lambda step: step["seconds"])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    console.print(
        f"\n{NOTE} Research software, not a medical device.\n"
        f"All of it: {seconds / 60:.1f} minutes now; slowest step {slowest['name']} with "
        f"{slowest['seconds']:.0f} s; largest process {peak:.1f} GiB, {jobs} at a time.\n"
        f"Report:  {page}\n"
        f"Table:   {work_dir / 'summary.md'}, {work_dir / 'summary.json'}",
        soft_wrap=True,
    )
    for figure in sorted(work_dir.glob("*.png")):
        console.print(f"Figure:  {figure}")
