"""A whole study, from DICOM to the report, against three stock models one after another.

"reference": every slice is read, windowed and goes through mmpretrain's classifier, mmseg's
encoder-decoder and mmdet's Faster R-CNN with the same backbone, one slice at a time in float32, as
the stock frameworks do by default. "ours": tools/infer.py's own work, report included. The fast
ways are compared with the plain one (torch, float32, no gate) before anything counts.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.infer import BACKBONES, unified_config
from pe_unified.ct.study import open_study
from pe_unified.ct.windows import window_to_uint8
from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.inference import SlicePrediction, StudyPredictor, analyse_study, load_model
from pe_unified.inference.engines import exported_folder
from pe_unified.inference.export import export_model
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey
from pe_unified.models.stock import stock_batch, stock_models

ROOT = Path(__file__).resolve().parents[2]
#: Between the fast ways and the plain one.
MOST_DIFFERENCE, LEAST_DICE = 0.01, 0.99


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="by tools/publish.py")
    parser.add_argument("--study", type=Path, help="a DICOM folder; painted if not given")
    parser.add_argument("--slices", type=int, default=300, help="of the painted study")
    parser.add_argument("--size", type=int, default=512, help="of the stock models' input")
    parser.add_argument("--backbone", default="R50", choices=BACKBONES)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--batch-size", type=int, default=8, help="ours; the stock models take 1")
    parser.add_argument(
        "--ways",
        nargs="+",
        default=["torch-fp32", "torch-bf16", "openvino-bf16"],
        metavar="BACKEND-PRECISION",
        help="of torch-fp32, torch-bf16, onnx-fp32, openvino-fp32, openvino-bf16",
    )


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        study = args.study or _painted(folder, args.slices)
        plain = _predictions(args, study, "torch-fp32", gate=False)
        reference = _stock_seconds(args, study)
        rows = []
        for way in args.ways:
            found = _predictions(args, study, way, gate=True)
            _require_agreement(way, plain, found)
            start = time.perf_counter()
            report = analyse_study(study, folder / way, _predictor(args, way, gate=True))
            seconds = time.perf_counter() - start
            _tell(args, way, report, study, folder)
            rows.append(
                {
                    "case": f"{args.backbone}, {len(report['slices'])} slices of "
                    f"{report['input']['rows']} x {report['input']['cols']}, {way}, network "
                    f"{' x '.join(map(str, load_model(args.checkpoint).size))}",
                    "ours": seconds,
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


def _predictor(args: argparse.Namespace, way: str, gate: bool) -> StudyPredictor:
    backend, precision = way.split("-")
    if backend != "torch":
        place = exported_folder(args.checkpoint, backend)
        if not place.is_dir():
            export_model(load_model(args.checkpoint, precision="fp32"), backend, place)
    model = load_model(args.checkpoint, device="cpu", precision=precision, backend=backend)
    return StudyPredictor(model, args.batch_size, gate)


def _predictions(
    args: argparse.Namespace, study: Path, way: str, gate: bool
) -> list[SlicePrediction]:
    with open_study(study) as opened:
        reader = SliceReader(opened)
        return _predictor(args, way, gate).predict(reader, survey(reader))


def _require_agreement(
    way: str, plain: list[SlicePrediction], found: list[SlicePrediction]
) -> None:
    """Probabilities everywhere, masks where the gate let the heads look."""
    worst, both, total = 0.0, 0, 0
    for one, other in zip(plain, found, strict=True):
        if one.probability is not None and other.probability is not None:
            worst = max(worst, abs(one.probability - other.probability))
        if other.examined:
            both += len(np.intersect1d(one.pixels, other.pixels))
            total += len(one.pixels) + len(other.pixels)
    dice = 2 * both / total if total else 1.0
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


def _stock_seconds(args: argparse.Namespace, study: Path) -> float:
    """The three stock models on every slice, reading included."""
    models = stock_models(unified_config(BACKBONES[args.backbone], small_lesions=False))
    for model in models.values():
        model.eval()
    windows = ("lung", "pe", "mediastinal")
    start = time.perf_counter()
    with open_study(study) as opened, torch.inference_mode():
        for index in range(len(opened)):
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


def _tell(
    args: argparse.Namespace, way: str, report: dict[str, Any], study: Path, folder: Path
) -> None:
    """Where the time goes, how near the machine's limit the network is, and the memory."""
    seconds = report["seconds"]
    stages = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    looked = [each for each in report["slices"] if each["probability"] is not None]
    print(f"{way}: {stages}; {seconds['network'] / max(len(looked), 1) * 1e3:.1f} ms per slice")
    backend, precision = way.split("-")
    if backend == "torch":
        examined = sum(each["examined"] for each in report["slices"])
        flops = _flops(args, len(looked), examined)
        reached, peak = flops / seconds["network"] / 1e9, _peak(precision) / 1e9
        print(
            f"{way}: {flops / 1e12:.2f} TFLOP in the network at {reached:.0f} GFLOP/s; a large "
            f"matrix product reaches {peak:.0f} GFLOP/s here"
        )
    command = ["tools/infer.py", str(study), "--checkpoint", str(args.checkpoint.resolve())]
    command += ["--out", str(folder / f"{way}-memory"), "--backend", backend]
    command += ["--precision", precision, "--batch-size", str(args.batch_size)]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{way}: at most {most:.2f} GiB so far, of all processes that were started")


def _flops(args: argparse.Namespace, trunk: int, heads: int) -> float:
    """Floating-point operations of the dense network for so many slices."""
    model = load_model(args.checkpoint, device="cpu", precision="fp32")
    inputs = torch.zeros(1, 3, *model.size)
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
