"""Our network and a whole study, against three stock models, tuned and as they come.

First the ladder times only the networks. It starts with mmpretrain's classifier, mmseg's
encoder-decoder and mmdet's Faster R-CNN with the same backbone, one slice at a time in float32,
and makes one change after another up to ours. Without --checkpoint that is all, with untrained
weights.

Then the work of pe-unified infer, from DICOM to the report, is timed in several ways, against
reading every slice and running the stock models on it: tuned as on the ladder, and as they come.
Before that, the answers of the fast ways are compared with those of the plain one (torch,
float32, no gate). With --device cuda all of this runs on a GPU, except the ways of onnx and
openvino, which are refused.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_unified.benchmarks.arguments import USUAL_WAYS
from pe_unified.benchmarks.ladder import (
    OURS,
    STOCK,
    TUNED,
    Rung,
    build_rungs,
    measure,
    require_equal,
)
from pe_unified.benchmarks.models import BACKBONES, untrained_checkpoint
from pe_unified.benchmarks.studies import lengthened, painted
from pe_unified.benchmarks.whole_study import (
    predictor_of,
    require_agreement,
    tell_memory,
    whole_studies,
)
from pe_unified.ct.opening import open_study
from pe_unified.datasets.slice_transforms import ResizeSlice
from pe_unified.inference.model import InferenceModel, load_network
from pe_unified.inference.network_pass import NetworkPass
from pe_unified.inference.reading import SliceReader, ahead, slice_of_study
from pe_unified.inference.stored_model import usable_device
from pe_unified.inference.survey import survey
from pe_unified.memory import keep_freed_memory
from pe_unified.precision import fastest_precision
from pe_unified.progress import track

#: Slices for a number that is only printed.
_FEW = 16


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(args.threads)
    if not args.checkpoint:
        if args.memory_of:
            raise SystemExit("--memory-of runs pe-unified infer: give its --checkpoint")
        if args.ways:
            raise SystemExit("--ways are ways of pe-unified infer: give its --checkpoint")
        args.ways = []
    elif args.ways is None:
        args.ways = USUAL_WAYS
    if args.device != "cpu" and not all(way.startswith("torch") for way in args.ways):
        raise SystemExit(f"--device {args.device}: only the ways of torch; name them by --ways")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        study = (args.study or painted(folder, args.slices)).resolve()
        for way in args.ways:
            predictor_of(args, way)  # exports the model if that is missing
        if args.memory_of:
            long = lengthened(study, folder / "long", args.memory_of)
            for way in args.ways:
                tell_memory(args, way, long, folder)
            return []
        backbone = BACKBONES[args.backbone]
        checkpoint = args.checkpoint or untrained_checkpoint(backbone, folder)
        device = usable_device(args.device)
        fastest = fastest_precision(device)
        ours = load_network(checkpoint, device=args.device, precision=fastest)
        rungs = {rung.name: rung for rung in build_rungs(backbone, ours, args.batch_size)}
        whole, cropped = _some_slices(args, ours, study)
        require_equal(list(rungs.values()), whole, cropped)
        rows, references = [], {}
        if args.ways:
            require_agreement(args, study)
            # Before the process begins to keep freed memory.
            references[STOCK] = _stock_seconds(args, ours, rungs[STOCK], study)
            _tell_kept_memory(args, rungs, whole, cropped)
        keep_freed_memory()
        if args.ladder_slices:
            where = f"{args.backbone}, {args.size} x {args.size}"
            rows += measure(list(rungs.values()), whole, cropped, where)
        if args.ways:
            tuned = _stock_seconds(args, ours, rungs[TUNED], study)
            references = {"tuned stock models": tuned, **references}
            rows += whole_studies(args, study, folder, references)
        return rows


def _pipeline(args: argparse.Namespace, ours: InferenceModel, cropped: bool) -> NetworkPass:
    """Prepares slices as for our model, or whole ones at the stock models' size."""
    size = ours.size if cropped else (args.size, args.size)
    steps = [
        ResizeSlice(size) if isinstance(each, ResizeSlice) else each for each in ours.transforms
    ]
    return NetworkPass(replace(ours, transforms=tuple(steps)))


def _some_slices(
    args: argparse.Namespace, ours: InferenceModel, study: Path
) -> tuple[list[dict], list[dict]]:
    """Slices spread over a study, including a batch to warm up: whole, and cropped."""
    with open_study(study) as opened:
        reader = SliceReader(opened)
        looked = survey(reader)
        count = min(len(looked.slices), (args.ladder_slices or _FEW) + args.batch_size)
        places = np.linspace(0, len(looked.slices) - 1, count).round().astype(int)
        whole, cropped = (
            [
                pipeline.prepare(slice_of_study(reader, looked.slices[place], ours.neighbours, box))
                for place in places
            ]
            for pipeline, box in (
                (_pipeline(args, ours, cropped=False), None),
                (_pipeline(args, ours, cropped=True), looked.box),
            )
        )
    return whole, cropped


def _stock_seconds(
    args: argparse.Namespace, ours: InferenceModel, rung: Rung, study: Path
) -> float:
    """Seconds of the stock models of a rung on every slice, including reading."""
    start = time.perf_counter()
    with open_study(study) as opened:
        reader = SliceReader(opened)
        box = survey(reader).box if rung.cropped else None
        pipeline = _pipeline(args, ours, rung.cropped)
        firsts = range(0, len(opened), rung.batch_size)
        batches = [range(first, min(first + rung.batch_size, len(opened))) for first in firsts]

        def prepare(batch: range) -> list[dict]:
            slices = [slice_of_study(reader, each, ours.neighbours, box) for each in batch]
            return [pipeline.prepare(each) for each in slices]

        for packed in track(ahead(prepare, batches), f"{rung.name}, batches", len(batches)):
            rung.run(packed)
    return time.perf_counter() - start


def _tell_kept_memory(
    args: argparse.Namespace, rungs: dict[str, Rung], whole: list[dict], cropped: list[dict]
) -> None:
    """Print the gain of the networks from keeping freed memory, which is on from here on."""
    ours = rungs[OURS]
    measured = {
        "the stock models": (rungs[STOCK], whole),
        "our network in fp32": (replace(ours, precision="fp32"), cropped),
        f"our network in {ours.precision}": (ours, cropped),
    }

    def seconds(rung: Rung, packed: list[dict]) -> float:
        rung.run(packed[: args.batch_size])  # warms up
        start = time.perf_counter()
        few = packed[args.batch_size : args.batch_size + _FEW]
        rung.run(few)
        return (time.perf_counter() - start) / len(few)

    before = {name: seconds(*each) for name, each in measured.items()}
    keep_freed_memory()
    for name, each in measured.items():
        one, other = before[name], seconds(*each)
        print(
            f"{name}, s per slice: {one:.3f}, with freed memory kept {other:.3f}, "
            f"{1 - other / one:.0%} less"
        )
