"""Our network and a whole study, against three stock models that are tuned and as they come.

First the ladder, the networks alone: mmpretrain's classifier, mmseg's encoder-decoder and mmdet's
Faster R-CNN with the same backbone, one slice at a time in float32, then one change after the
other up to ours. Without --checkpoint that is all, with untrained weights.

Then, from DICOM to the report, tools/infer.py's own work in several ways, against reading every
slice and running the stock models on it: tuned as on the ladder, and as they come. The fast
ways are compared with the plain one (torch, float32, no gate) before anything counts.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import ladder
from benchmarks.models import BACKBONES, untrained_checkpoint
from benchmarks.studies import ROOT, first_half, lengthened, painted
from pe_unified.ct.study import open_study
from pe_unified.datasets.geometry import ResizeSlice
from pe_unified.inference import SlicePrediction, StudyPredictor, analyse_study, load_model
from pe_unified.inference.engines import exported_folder
from pe_unified.inference.export import export_model
from pe_unified.inference.model import InferenceModel
from pe_unified.inference.predictor import BATCH_SIZE, PredictorSettings
from pe_unified.inference.reading import SliceReader, ahead
from pe_unified.inference.survey import survey
from pe_unified.memory import keep_freed_memory
from pe_unified.models.precision import fastest_precision

#: Between the fast ways and the plain one.
MOST_DIFFERENCE, LEAST_DICE = 0.01, 0.99
#: Slices for a figure that is only told.
_FEW = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", type=Path, help="by tools/publish.py; without one only the ladder is run"
    )
    parser.add_argument("--study", type=Path, help="a DICOM folder; painted if not given")
    parser.add_argument("--slices", type=int, default=300, help="of the painted study")
    parser.add_argument(
        "--ladder-slices", type=int, default=32, help="timed on every rung; 0: no ladder"
    )
    parser.add_argument(
        "--memory-of",
        type=int,
        metavar="SLICES",
        help="tell how much memory a study of so many slices takes, and time nothing",
    )
    parser.add_argument("--size", type=int, default=512, help="of the stock models' input")
    parser.add_argument("--backbone", default="R50", choices=BACKBONES)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument(
        "--batch-size", type=int, default=BATCH_SIZE, help="ours, and of the tuned stock models"
    )
    parser.add_argument(
        "--ways",
        nargs="*",
        default=["torch-bf16", "openvino-bf16", "openvino-bf16-nogate"],
        metavar="WAY",
        help="BACKEND-PRECISION, without the gate BACKEND-PRECISION-nogate; of torch-fp32, "
        "torch-bf16, onnx-fp32, openvino-fp32, openvino-bf16; none for the ladder alone",
    )


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(args.threads)
    ways = args.ways if args.checkpoint else []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        study = (args.study or painted(folder, args.slices)).resolve()
        if args.memory_of:
            long = lengthened(study, folder / "long", args.memory_of)
            for way in ways:
                _predictor(args, way)  # exports the model where that is missing
                _tell_memory(args, way, long, folder)
            return []
        precision = fastest_precision(torch.device("cpu"))
        checkpoint = args.checkpoint or untrained_checkpoint(BACKBONES[args.backbone], folder)
        ours = load_model(checkpoint, device="cpu", precision=precision)
        rungs = ladder.build_rungs(BACKBONES[args.backbone], ours.model, precision, args.batch_size)
        stock = _Stock(args, ours, study)
        references = {}
        if ways:  # while the process still treats memory as any process does
            references[ladder.STOCK] = stock.seconds(rungs[0])
            _tell_kept_memory(args, stock, rungs[0])
        keep_freed_memory()
        rows = _ladder(args, stock, rungs) if args.ladder_slices else []
        if ways:
            tuned = next(rung for rung in rungs if rung.name == ladder.TUNED)
            references = {"tuned stock models": stock.seconds(tuned), **references}
        return rows + _whole_studies(args, ways, study, folder, references)


def _whole_studies(
    args: argparse.Namespace,
    ways: list[str],
    study: Path,
    folder: Path,
    references: dict[str, float],
) -> list[dict[str, Any]]:
    """Rows of every way beside every reference, seconds per study."""
    if not ways:
        return []
    half = first_half(study, folder / "half")
    plain = _predictions(_predictor(args, "torch-fp32-nogate"), study)
    rows = []
    for way in ways:
        predictor = _predictor(args, way)
        _require_agreement(way, plain, _predictions(predictor, study))
        report = analyse_study(study, folder / way, predictor)
        shorter = analyse_study(half, folder / f"{way}-half", predictor)
        _tell(args, way, report, shorter)
        _tell_memory(args, way, study, folder)
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


class _Stock:
    """The stock models on the slices of a study, whole or cropped as ours are."""

    def __init__(self, args: argparse.Namespace, ours: InferenceModel, study: Path) -> None:
        whole = [
            ResizeSlice((args.size, args.size)) if isinstance(step, ResizeSlice) else step
            for step in ours.transforms
        ]
        self.study = study
        self.cropped = StudyPredictor(ours, args.batch_size)
        self.whole = StudyPredictor(replace(ours, transforms=tuple(whole)), args.batch_size)

    def seconds(self, rung: ladder.Rung, most: int | None = None) -> float:
        """The models of a rung on every slice, or on the first ``most``, reading included."""
        start = time.perf_counter()
        with open_study(self.study) as opened:
            if most is not None:  # of a few slices only what every slice costs
                start = time.perf_counter()
            reader = SliceReader(opened)
            prepare = partial(self.whole.prepare_slice, reader=reader, box=None)
            if rung.cropped:
                box = survey(reader).box
                prepare = partial(self.cropped.prepare_slice, reader=reader, box=box)
            wanted = range(min(len(opened), most or len(opened)))
            batches = [
                wanted[first : first + rung.batch_size]
                for first in range(0, len(wanted), rung.batch_size)
            ]
            for packed in ahead(lambda batch: [prepare(each) for each in batch], batches):
                rung.run(packed)
        return time.perf_counter() - start


def _ladder(
    args: argparse.Namespace, stock: _Stock, rungs: list[ladder.Rung]
) -> list[dict[str, Any]]:
    """Rows of the ladder, on slices spread over the study, and a batch more to warm up."""
    with open_study(stock.study) as opened:
        reader = SliceReader(opened)
        looked = survey(reader)
        count = min(len(looked.slices), args.ladder_slices + args.batch_size)
        places = np.linspace(0, len(looked.slices) - 1, count).round().astype(int)
        wanted = [looked.slices[place] for place in places]
        whole = [stock.whole.prepare_slice(each, reader, None) for each in wanted]
        cropped = [stock.cropped.prepare_slice(each, reader, looked.box) for each in wanted]
    sizes = (" x ".join(map(str, each[0]["inputs"].shape[1:])) for each in (whole, cropped))
    return ladder.measure(
        rungs, whole, cropped, f"{args.backbone}, networks, {', cropped '.join(sizes)}"
    )


def _parts_of(way: str) -> tuple[str, str, bool]:
    """Backend, precision, and whether the gate is used."""
    backend, precision, *rest = way.split("-")
    return backend, precision, rest != ["nogate"]


def _predictor(args: argparse.Namespace, way: str) -> StudyPredictor:
    backend, precision, gate = _parts_of(way)
    if backend != "torch":
        place = exported_folder(args.checkpoint, backend)
        if not place.is_dir():
            export_model(
                load_model(args.checkpoint, device="cpu", precision="fp32"), backend, place
            )
    return PredictorSettings(
        str(args.checkpoint),
        device="cpu",
        precision=precision,
        batch_size=args.batch_size,
        gate=gate,
        backend=backend,
    ).predictor()


def _predictions(predictor: StudyPredictor, study: Path) -> list[SlicePrediction]:
    with open_study(study) as opened:
        reader = SliceReader(opened)
        return predictor.predict(reader, survey(reader))


def _require_agreement(
    way: str, plain: list[SlicePrediction], found: list[SlicePrediction]
) -> None:
    """Probabilities and masks on all slices, also on those that the gate kept the heads from."""
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
        f"{way}: probabilities within {worst:.4f} of the plain way, Dice of the masks {dice:.4f}; "
        f"the gate let {kept:.0%} of the slices through, {lost} embolus pixels of the plain way "
        "were on the others"
    )
    if worst > MOST_DIFFERENCE or dice < LEAST_DICE:
        raise SystemExit(
            f"{way} differs from the plain way by more than {MOST_DIFFERENCE} or has a Dice "
            f"below {LEAST_DICE}; nothing was timed"
        )


def _tell_kept_memory(args: argparse.Namespace, stock: _Stock, plain: ladder.Rung) -> None:
    """What keeping freed memory is worth to either side; the process keeps it from here on."""
    measured: dict[str, Callable[[], float]] = {
        "the stock models": lambda: stock.seconds(plain, _FEW) / _FEW
    }
    for precision in dict.fromkeys(["fp32", fastest_precision(torch.device("cpu"))]):
        model = load_model(args.checkpoint, device="cpu", precision=precision)
        predictor = StudyPredictor(model, args.batch_size, gate=False)
        measured[f"our network in {precision}"] = partial(_network_seconds, predictor, stock.study)
    before = {name: seconds() for name, seconds in measured.items()}
    keep_freed_memory()
    for name, seconds in measured.items():
        one, other = before[name], seconds()
        print(
            f"{name}, s per slice: {one:.3f}, with freed memory kept {other:.3f}, "
            f"{1 - other / one:.0%} less"
        )


def _network_seconds(predictor: StudyPredictor, study: Path) -> float:
    """Of the network alone, for one of a few slices; nothing is read meanwhile."""
    with open_study(study) as opened:
        reader = SliceReader(opened)
        looked = survey(reader)
        wanted = looked.slices[: _FEW + predictor.batch_size]
        packed = [predictor.prepare_slice(number, reader, looked.box) for number in wanted]
    first = predictor.batch_size  # warms up
    predictor.predict_batch(wanted[:first], packed[:first])
    start = time.perf_counter()
    for place in range(first, len(wanted), first):
        predictor.predict_batch(wanted[place : place + first], packed[place : place + first])
    return (time.perf_counter() - start) / (len(wanted) - first)


def _tell(
    args: argparse.Namespace, way: str, report: dict[str, Any], shorter: dict[str, Any]
) -> None:
    """Where the time goes, what a further slice costs, how near the machine's limit this is."""
    seconds = report["seconds"]
    stages = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    more = len(report["slices"]) - len(shorter["slices"])
    added = (seconds["total"] - shorter["seconds"]["total"]) / more
    print(f"{way}: {stages}; {added * 1e3:.0f} ms for every slice more")
    looked = [each for each in report["slices"] if each["probability"] is not None]
    examined = sum(each["examined"] for each in report["slices"])
    flops = _flops(args, len(looked), examined)
    reached, peak = flops / seconds["network"] / 1e9, _peak(_parts_of(way)[1]) / 1e9
    print(
        f"{way}: {len(looked)} slices looked at, {examined} examined for pixels and boxes; "
        f"{flops / 1e12:.1f} TFLOP in the network at {reached:.0f} GFLOP/s, {reached / peak:.0%} "
        f"of what a large matrix product of torch reaches here ({peak:.0f})"
    )


def _tell_memory(args: argparse.Namespace, way: str, study: Path, folder: Path) -> None:
    """Peak memory of the command itself, in a process of its own."""
    backend, precision, gate = _parts_of(way)
    command = [sys.executable, "tools/infer.py", str(study)]
    command += ["--checkpoint", str(args.checkpoint.resolve()), "--backend", backend]
    command += ["--device", "cpu", "--precision", precision, "--batch-size", str(args.batch_size)]
    command += ["--out", str(folder / f"{way}-memory"), *([] if gate else ["--no-gate"])]
    most = 0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            # The peak so far, as the system keeps it. (That of getrusage counts this process, too.)
            status = Path(f"/proc/{process.pid}/status").read_text()
            most = max([most, *(int(kib) for kib in re.findall(r"VmHWM:\s*(\d+) kB", status))])
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{way}: {' '.join(command)} failed")
    print(f"{way}: the command takes {most * 1024 / 1e9:.2f} GB at most")


def _flops(args: argparse.Namespace, trunk: int, heads: int) -> float:
    """Floating-point operations of the dense network for so many slices."""
    model = load_model(args.checkpoint, device="cpu", precision="fp32")
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


def _peak(precision: str) -> float:
    """Operations per second of a product of large matrices."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    one, other = (torch.randn(3072, 3072, dtype=kind) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        one @ other
        best = min(best, time.perf_counter() - start)
    return 2 * 3072**3 / best
