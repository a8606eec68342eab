"""A whole study, from DICOM to the report, against three stock models one after another.

"reference": every slice is read, windowed and goes through mmpretrain's classifier, mmseg's
encoder-decoder and mmdet's Faster R-CNN with the same backbone, one slice at a time in float32, as
the stock frameworks do by default. "ours": tools/infer.py's own work, report included. The fast
ways are compared with the plain one (torch, float32, no gate) before anything counts.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from pydicom.uid import generate_uid
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.infer import BACKBONES, unified_config
from pe_unified.ct.study import open_study
from pe_unified.ct.windows import window_to_uint8
from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.inference import SlicePrediction, StudyPredictor, analyse_study, load_model
from pe_unified.inference.engines import exported_folder
from pe_unified.inference.export import export_model
from pe_unified.inference.predictor import PredictorSettings
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey
from pe_unified.memory import keep_freed_memory
from pe_unified.models.precision import fastest_precision
from pe_unified.models.stock import stock_batch, stock_models
from pe_unified.options import BATCH_SIZE

ROOT = Path(__file__).resolve().parents[2]
#: Between the fast ways and the plain one.
MOST_DIFFERENCE, LEAST_DICE = 0.01, 0.99
#: Slices for a figure that is only told.
_FEW = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="by tools/publish.py")
    parser.add_argument("--study", type=Path, help="a DICOM folder; painted if not given")
    parser.add_argument("--slices", type=int, default=300, help="of the painted study")
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
        "--batch-size", type=int, default=BATCH_SIZE, help="ours; the stock models take 1"
    )
    parser.add_argument(
        "--ways",
        nargs="+",
        default=["torch-bf16", "openvino-bf16", "openvino-bf16-nogate"],
        metavar="WAY",
        help="BACKEND-PRECISION, without the gate BACKEND-PRECISION-nogate; of torch-fp32, "
        "torch-bf16, onnx-fp32, openvino-fp32, openvino-bf16",
    )


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        study = (args.study or _painted(folder, args.slices)).resolve()
        if args.memory_of:
            long = _lengthened(study, folder / "long", args.memory_of)
            for way in args.ways:
                _predictor(args, way)  # exports the model where that is missing
                _tell_memory(args, way, long, folder)
            return []
        half = _first_half(study, folder / "half")
        # First, while the process still treats memory as any process does.
        reference = _stock_seconds(args, study)
        _tell_kept_memory(args, study)
        plain = _predictions(_predictor(args, "torch-fp32-nogate"), study)
        rows = []
        for way in args.ways:
            predictor = _predictor(args, way)
            _require_agreement(way, plain, _predictions(predictor, study))
            report = analyse_study(study, folder / way, predictor)
            shorter = analyse_study(half, folder / f"{way}-half", predictor)
            _tell(args, way, report, shorter)
            _tell_memory(args, way, study, folder)
            rows.append(
                {
                    "case": f"{args.backbone}, {len(report['slices'])} slices of "
                    f"{report['input']['rows']} x {report['input']['cols']}, {way}, network "
                    f"{' x '.join(map(str, predictor.model.size))}",
                    "ours": report["seconds"]["total"],
                    "reference": reference,
                    "unit": "s per study",
                }
            )
    return rows


def _painted(folder: Path, slices: int) -> Path:
    command = f"data_converters/make_phantom.py {folder / 'raw'} --layout fumpe --studies 1"
    command += f" --size 512 --slices {slices} --positive-rate 1 --quiet"
    subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True)
    return next((folder / "raw" / "CT_scans").iterdir())


def _lengthened(study: Path, folder: Path, slices: int) -> Path:
    """A study of so many slices, thinner ones: those of another one, up and down."""
    with open_study(study) as opened:
        files, step = opened.files, opened.known_spacing()[2]
    folder.mkdir()
    thinner = step * len(files) / slices
    for number in range(slices):
        place = number % (2 * len(files))
        dataset = pydicom.dcmread(files[min(place, 2 * len(files) - 1 - place)])
        x, y, _ = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, f"{number * thinner:.4f}"]
        dataset.SliceThickness = f"{thinner:.4f}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(folder / f"{number}.dcm")
    return folder


def _first_half(study: Path, folder: Path) -> Path:
    """The lower half of a study's slices, as links."""
    with open_study(study) as opened:
        files = opened.files[: len(opened) // 2]
    folder.mkdir()
    for number, file in enumerate(files):
        (folder / f"{number}.dcm").symlink_to(Path(file).resolve())
    return folder


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


def _stock_seconds(args: argparse.Namespace, study: Path, most: int | None = None) -> float:
    """The three stock models on every slice, or on the first ``most``, reading included."""
    models = stock_models(unified_config(BACKBONES[args.backbone], small_lesions=False))
    for model in models.values():
        model.eval()
    windows = ("lung", "pe", "mediastinal")
    start = time.perf_counter()
    with open_study(study) as opened, torch.inference_mode():
        if most is not None:  # of a few slices only what every slice costs
            start = time.perf_counter()
        for index in range(min(len(opened), most or len(opened))):
            hu = opened.slice_hu(index)
            picture = torch.from_numpy(np.stack([window_to_uint8(hu, each) for each in windows]))
            if tuple(picture.shape[1:]) != (args.size, args.size):
                picture = torch.nn.functional.interpolate(
                    picture[None].float(), size=(args.size, args.size), mode="bilinear"
                )[0]
            shape = (args.size, args.size)
            sample = PEDataSample(
                metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0))
            )
            for task, model in models.items():
                batch = {"inputs": [picture], "data_samples": [sample]}
                model.test_step(stock_batch(batch, task))
    return time.perf_counter() - start


def _tell_kept_memory(args: argparse.Namespace, study: Path) -> None:
    """What keeping freed memory is worth to either side; the process keeps it from here on."""
    measured: dict[str, Callable[[], float]] = {
        "the stock models": lambda: _stock_seconds(args, study, _FEW) / _FEW
    }
    for precision in dict.fromkeys(["fp32", fastest_precision(torch.device("cpu"))]):
        model = load_model(args.checkpoint, device="cpu", precision=precision)
        predictor = StudyPredictor(model, args.batch_size, gate=False)
        measured[f"our network in {precision}"] = partial(_network_seconds, predictor, study)
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
        packed = [predictor.prepare_slice(number, reader, looked) for number in wanted]
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
