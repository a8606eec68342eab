"""The stages that the demos are made of, each a command that is printed before it runs."""

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

from pe_unified.options import positive
from pe_unified.progress import duration
from pe_unified.workers import run_command, usable_cores

SPLIT = ("0.6", "0.15", "0.25")
NOTE = "Synthetic data: painted phantoms, no patient."

console = Console(highlight=False)


class Course:
    """How far a demo is.

    Args:
        seconds: rough, of its stages in order; those that ran correct the rest.
    """

    def __init__(self, seconds: Sequence[float]) -> None:
        self.seconds = seconds
        self.begun = 0
        self._expected = self._took = 0.0

    def begin(self) -> str:
        """Begin the next stage; text on how far the demo is."""
        left = sum(self.seconds[self.begun :])
        if self._expected:
            left *= self._took / self._expected
        self.begun += 1
        return f"stage {self.begun} of {len(self.seconds)}, about {duration(left)} left"

    def end(self, seconds: float) -> None:
        """The stage ran and took so many seconds."""
        self._expected += self.seconds[self.begun - 1]
        self._took += seconds


def add_arguments(parser: argparse.ArgumentParser, usual: Mapping[str, Any]) -> None:
    """The arguments of every demo. Arguments that are not given are None until :func:`choose`.

    Args:
        parser: of the demo.
        usual: see there; shown as the defaults.
    """
    name = usual["name"]
    for option, told, kind in (
        ("--data", f"folder of studies and slices (default: data/{name})", Path),
        ("--work-dir", f"folder of the results (default: work_dirs/{name})", Path),
        ("--recipe", f"recipe to train (default: {usual['recipe']})", str),
        ("--size", f"rows and columns of a slice (default: {usual['size']})", positive),
        ("--slices", f"slices per study (default: {usual['slices']})", positive),
    ):
        parser.add_argument(option, type=kind, help=told)
    parser.add_argument(
        "--workers",
        type=positive,
        default=min(usable_cores(), 4),
        help="processes that paint and convert, and steps trained at a time; default: one per "
        "core, at most 4 (each takes 1.5 GiB)",
    )
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], help="override settings in every step"
    )


def choose(args: argparse.Namespace, usual: Mapping[str, Any]) -> None:
    """Set what the command line left open.

    Args:
        usual: by argument; ``name`` of the folders; ``seconds`` of the stages, see :class:`Course`.
    """
    args.course = Course(usual["seconds"])
    args.data = args.data or Path("data", usual["name"])
    args.work_dir = args.work_dir or Path("work_dirs", usual["name"])
    for name in ("recipe", "studies", "size", "slices"):
        setattr(args, name, getattr(args, name) or usual[name])


def run(
    args: argparse.Namespace, title: str, command: Sequence[str | Path], done: Path | None = None
) -> bool:
    """Run one stage, unless what it leaves is there already; whether it ran."""
    course = args.course.begin()
    if done is not None and done.exists():
        console.print(f"[dim]{title}: done before[/dim]")
        return False
    words = [str(word) for word in command]
    console.print(f"\n[bold]{title}[/bold] ({course})", soft_wrap=True)
    console.print(f"$ pe-unified {shlex.join(words)}", style="dim", markup=False, soft_wrap=True)
    start = time.monotonic()
    status = run_command([sys.executable, "-m", "pe_unified", *words])
    if status:
        console.print(f"[red]{title} stopped with status {status}; fix it and run again[/red]")
        sys.exit(status)
    seconds = time.monotonic() - start
    args.course.end(seconds)
    console.print(f"[dim]{seconds:.0f} s[/dim]")
    return True


def paint_and_convert(
    args: argparse.Namespace, layout: str, studies: int, seed: int, *more: str
) -> tuple[Path, Path]:
    """Painted studies, raw and converted.

    Args:
        args: of the demo.
        layout: of a public set.
        studies: their number.
        seed: of the set.
        more: further words of ``pe-unified phantom``.
    """
    raw, converted = args.data / "raw" / layout, args.data / layout
    workers = ["--workers", str(args.workers)]
    paint = ["phantom", raw, "--layout", layout, "--seed", str(seed), "--studies", str(studies)]
    paint += ["--size", str(args.size), "--slices", str(args.slices), *more, *workers]
    run(args, f"Paint {studies} studies in the {layout} layout", paint)
    convert = ["convert", layout, raw, converted, "--split", *SPLIT, *workers]
    run(args, f"Convert {layout}", convert)
    return raw, converted


def verify(args: argparse.Namespace, data: Path) -> None:
    """Verify a converted set, unless that was done since it changed."""
    verified = data.with_suffix(".verified")
    if is_outdated(verified, [data]):
        verified.unlink()
    if run(args, "Verify", ["verify", data], done=verified):
        verified.touch()


def train(args: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Train and test every step of the recipe; its summary."""
    import torch

    from pe_unified.precision import cpu_has_bfloat16

    if not (torch.cuda.is_available() or cpu_has_bfloat16()):
        console.print(
            "\nThis CPU does not compute in bfloat16. Training is in float32 and takes two to "
            "three times as long (docs/demo.md)."
        )
    command = ["steps", args.recipe, "--data-root", data, "--work-dir", args.work_dir]
    command += ["--note", NOTE, "--jobs", str(args.workers)]
    if args.cfg_options:
        command += ["--cfg-options", *args.cfg_options]
    run(args, "Train and test every step", command)
    return json.loads((args.work_dir / "summary.json").read_text(encoding="utf-8"))


def publish(args: argparse.Namespace, step: Mapping[str, Any], model: Path, data: Path) -> None:
    """Publish the checkpoint of a step, unless that was done since it was trained.

    The report of a model that was published before goes.

    Args:
        args: of the demo.
        step: its entry in ``summary.json``.
        model: the file to write.
        data: the converted set, on whose validation split thresholds are fixed.
    """
    checkpoint = args.work_dir / step["checkpoint"]
    if model.is_file() and model.stat().st_mtime_ns < checkpoint.stat().st_mtime_ns:
        model.unlink()
    config = checkpoint.with_name(Path(step["config"]).name)
    command = ["publish", config, checkpoint, model, "--data-root", data]
    if run(args, f"Publish {step['name']}", command, done=model):
        shutil.rmtree(args.work_dir / "report", ignore_errors=True)


def infer(args: argparse.Namespace, study: Path, *models: str | Path) -> Path:
    """The report of a study of the test split; its page.

    Args:
        args: of the demo.
        study: its raw slices.
        models: words of ``pe-unified infer``.
    """
    page = args.work_dir / "report" / "report.html"
    title = f"From a study of the test split to a report: {study.name}"
    run(args, title, ["infer", study, *models, "--out", page.parent], done=page)
    return page


def tell(args: argparse.Namespace, summary: Mapping[str, Any], page: Path, start: float) -> None:
    """Print what it took, and where everything lies."""
    slowest = max(summary["steps"], key=lambda step: step["seconds"])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    console.print(
        f"\n{NOTE} Research software, not a medical device.\n"
        f"Total: {(time.monotonic() - start) / 60:.1f} minutes in this run; slowest step "
        f"{slowest['name']} with {slowest['seconds']:.0f} s; largest process {peak:.1f} GiB, "
        f"{args.workers} at a time.\n"
        f"Report:  {page}\n"
        f"Table:   {args.work_dir / 'summary.md'}, {args.work_dir / 'summary.json'}",
        soft_wrap=True,
    )
    for figure in sorted(args.work_dir.glob("*.png")):
        console.print(f"Figure:  {figure}")


def is_outdated(made: Path, sets: Sequence[Path]) -> bool:
    """Whether one of the data sets that a file rests on changed since."""
    return made.is_file() and made.stat().st_mtime_ns < max(_changed(folder) for folder in sets)


def _changed(data: Path) -> int:
    """When a data set changed last: report, annotations, or slices, put in or taken out; ns."""
    paths = [data / "images"]
    for pattern in ("*.json", "annotations/*.json", "images/**/*"):
        paths += data.glob(pattern)
    return max(path.stat().st_mtime_ns for path in paths)
