"""Whole studies in several ways, from DICOM to the report, against the stock models."""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from pe_unified.benchmarks.ladder import clocks
from pe_unified.benchmarks.studies import first_half
from pe_unified.ct.opening import open_study
from pe_unified.inference.engines import exported_folder
from pe_unified.inference.export import export_model
from pe_unified.inference.model import load_model, load_network
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.slice_prediction import SlicePrediction
from pe_unified.inference.survey import survey
from pe_unified.precision import fastest_precision
from pe_unified.progress import drop, tell
from pe_unified.reports.analysis import analyse_study

#: Limits between the fast ways and the plain one: for probabilities, and for Dice of masks.
#: Rounding to bfloat16 stays within them.
MOST_DIFFERENCE, LEAST_DICE = 0.05, 0.9


def require_agreement(args: argparse.Namespace, study: Path) -> None:
    """Compare the answers of every way with those of the plain one.

    Args:
        args, study: as for :func:`whole_studies`.

    Raises:
        SystemExit: a way in float gives other answers than the plain one.
    """
    plain = _predictions(args, "torch-fp32-nogate", study)
    for way in args.ways:
        _compare(way, plain, _predictions(args, way, study))


def whole_studies(
    args: argparse.Namespace, study: Path, folder: Path, references: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Rows of every way against every reference.

    Args:
        args: of the command: checkpoint, ways, backbone and batch size.
        study: its files.
        folder: for what is written.
        references: seconds that this study takes in other ways, by name.
    """
    half = first_half(study, folder / "half")
    rows = []
    for way in args.ways:
        predictor = predictor_of(args, way)
        report = analyse_study(study, folder / way, predictor)
        shorter = analyse_study(half, folder / f"{way}-half", predictor)
        _tell(args, way, report, shorter)
        tell_memory(args, way, study, folder)
        rows += [
            {
                "case": f"{args.backbone}, {len(report['slices'])} slices of "
                f"{report['input']['rows']} x {report['input']['cols']}, {way}, network "
                f"{' x '.join(map(str, predictor.model.size))} / {name}",
                "ours": report["seconds"]["total"],
                "reference": seconds,
                "unit": "s per study",
            }
            for name, seconds in references.items()
        ]
    return rows


class _Way(NamedTuple):
    """How a study is computed; ``precision`` is that of all parts that are not in int8."""

    backend: str
    precision: str
    gate: bool
    int8: bool


def _parts_of(way: str, device: str) -> _Way:
    backend, precision, *rest = way.split("-")
    int8 = precision == "int8"
    if int8:
        precision = fastest_precision(torch.device(device))
    return _Way(backend, precision, rest != ["nogate"], int8)


def _exported(args: argparse.Namespace, way: _Way) -> Path:
    """Folder of the exported model of a way; the int8 model is beside the float model."""
    return exported_folder(args.checkpoint, f"{way.backend}-int8" if way.int8 else way.backend)


def predictor_of(args: argparse.Namespace, way: str) -> StudyPredictor:
    """The model as a way computes it; it is exported if that is missing.

    Unlike :meth:`~pe_unified.inference.predictor.PredictorSettings.predictor`, loading it does not
    change how this process treats freed memory, because the stock models are timed later.

    Raises:
        SystemExit: an int8 model is missing, which needs slices to calibrate, or the folder holds
            an int8 model in place of a float one, or the reverse.
    """
    parts = _parts_of(way, args.device)
    place = _exported(args, parts)
    if parts.backend != "torch" and not place.is_dir():
        if parts.int8:
            raise SystemExit(
                f"{place}: no such folder; make it with pe-unified export {args.checkpoint} "
                f"--backend {parts.backend} --int8 --data-root DATA --out {place}"
            )
        network = load_network(args.checkpoint, device="cpu", precision="fp32")
        export_model(network, parts.backend, place)
    model = load_model(
        str(args.checkpoint),
        device=args.device,
        precision=parts.precision,
        backend=parts.backend,
        exported=place,
    )
    if bool(model.int8) != parts.int8:
        raise SystemExit(
            f"{way}: the model in {place} is {'not ' if parts.int8 else ''}in int8; remove that "
            "folder"
        )
    return StudyPredictor(model, args.batch_size, parts.gate)


def _predictions(args: argparse.Namespace, way: str, study: Path) -> list[SlicePrediction]:
    predictor, title = predictor_of(args, way), f"comparing {way}, slices"
    with open_study(study) as opened:
        reader = SliceReader(opened)
        found = predictor.predict(reader, survey(reader), partial(tell, title))
    drop(title)
    return found


def _compare(way: str, plain: list[SlicePrediction], found: list[SlicePrediction]) -> None:
    """Compare probabilities and masks on all slices, also on those that the gate skipped.

    For int8 nothing is required here: at export, the metrics of validation limit its changes.
    """
    worst, both, total = 0.0, 0, 0
    for one, other in zip(plain, found, strict=True):
        if one.probability is not None and other.probability is not None:
            worst = max(worst, abs(one.probability - other.probability))
        both += len(np.intersect1d(one.pixels, other.pixels))
        total += len(one.pixels) + len(other.pixels)
    if not total:
        raise SystemExit(f"{way}: no mask to compare; take a study in which the model sees emboli")
    dice = 2 * both / total
    kept = np.mean([each.examined for each in found])
    lost = sum(len(each.pixels) for each, other in zip(plain, found) if not other.examined)
    print(
        f"{way}: probabilities within {worst:.4f} of the plain way, Dice of the masks {dice:.4f} "
        f"({total / 2:.0f} pixels on average); the gate let {kept:.0%} of the slices through, "
        f"{lost} embolus pixels of the plain way were on the others"
    )
    if "int8" not in way and (worst > MOST_DIFFERENCE or dice < LEAST_DICE):
        raise SystemExit(
            f"{way} differs from the plain way by more than {MOST_DIFFERENCE} or has a Dice "
            f"below {LEAST_DICE}; nothing was timed"
        )


def _tell(
    args: argparse.Namespace, way: str, report: dict[str, Any], shorter: dict[str, Any]
) -> None:
    """Print where the time goes, the cost of another slice, and the share of the machine's peak."""
    seconds = report["seconds"]
    stages = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    more = len(report["slices"]) - len(shorter["slices"])
    added = (seconds["total"] - shorter["seconds"]["total"]) / more
    print(f"{way}: {stages}; {added * 1e3:.0f} ms for every slice more")
    looked = [each for each in report["slices"] if each["probability"] is not None]
    examined = sum(each["examined"] for each in report["slices"])
    flops = _flops(args, len(looked), examined)
    precision = _parts_of(way, args.device).precision
    reached = flops / seconds["network"] / 1e9
    peak = _peak(precision, torch.device(args.device)) / 1e9
    print(
        f"{way}: {len(looked)} slices looked at, {examined} examined for pixels and boxes; "
        f"{flops / 1e12:.1f} TFLOP in the network at {reached:.0f} GFLOP/s, {reached / peak:.0%} "
        f"of what a large matrix product of torch reaches here in {precision} ({peak:.0f})"
    )


def tell_memory(args: argparse.Namespace, way: str, study: Path, folder: Path) -> None:
    """Print the peak memory of the command itself, in a separate process."""
    parts = _parts_of(way, args.device)
    command = [sys.executable, "-m", "pe_unified", "infer", str(study)]
    command += ["--checkpoint", str(args.checkpoint.resolve()), "--backend", parts.backend]
    command += ["--exported", str(_exported(args, parts).resolve()), "--device", args.device]
    command += ["--precision", parts.precision, "--batch-size", str(args.batch_size)]
    command += ["--out", str(folder / f"{way}-memory"), *([] if parts.gate else ["--no-gate"])]
    most = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            # The peak so far, as the system records it (getrusage also counts this process).
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            most = max([most, *(int(kib) for kib in re.findall(r"VmHWM:\s*(\d+) kB", status))])
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{way}: {' '.join(command)} failed")
    print(f"{way}: the command takes {most * 1024 / 1e9:.2f} GB at most")


def _flops(args: argparse.Namespace, trunk: int, heads: int) -> float:
    """Floating-point operations of the dense network for so many slices."""
    model = load_network(args.checkpoint, device="cpu", precision="fp32")
    channels = model.model.data_preprocessor.mean.numel()
    inputs = torch.zeros(1, channels, *model.size)
    with torch.inference_mode():
        counter = FlopCounterMode(display=False)
        with counter:
            _, levels = model.engine.trunk(inputs)
        first = counter.get_total_flops()
        counter = FlopCounterMode(display=False)
        with counter:
            model.engine.heads(levels, inputs)
    return float(first * trunk + counter.get_total_flops() * heads)


def _peak(precision: str, device: torch.device) -> float:
    """Operations per second of a product of large matrices."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    one, other = (torch.randn(3072, 3072, dtype=kind, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        start = clocks(device)[1]
        one @ other
        best = min(best, clocks(device)[1] - start)
    return 2 * 3072**3 / best
