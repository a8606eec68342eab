"""Scoring folders of masks, against MONAI's metrics on the same files.

The masks are generated, with ellipsoids as lesions: most are found up to a voxel away, and some
findings are false. "ours" is all that `pe-unified evaluate` does, including writing its results.
The reference is one process that reads the same files and computes Dice, ASSD, HD95 and NSD, and
nothing per lesion. Both start from files. Memory is the peak of the process and its workers
together, not counting shared memory.
"""

import argparse
import statistics
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import psutil

from pe_unified.benchmarks.common import seconds_of
from pe_unified.errors import UserError
from pe_unified.evaluation.masks.case_files import find_references, find_system
from pe_unified.evaluation.masks.folders import evaluate_folders
from pe_unified.evaluation.masks.result_files import write_results
from pe_unified.evaluation.masks.rules import Rules
from pe_unified.progress import track

SPACING = (0.7, 0.7, 1.0)  # col, row, slice, mm
_PREDICTIONS = ("masks", "probabilities")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    try:
        import monai.metrics  # noqa: F401
    except ImportError as error:
        raise UserError("the reference is MONAI: pip install monai") from error
    rows = []
    with tempfile.TemporaryDirectory(prefix="evaluate-") as scratch:
        root = Path(scratch)
        write_cases(root, args)
        size = f"{args.cases} x {args.slices} slices of {args.size} x {args.size}"
        for kind in _PREDICTIONS:
            calls = (lambda k=kind: _ours(root, k, args.workers), lambda k=kind: _monai(root, k))
            measured = [[_cost(call) for call in calls] for _ in range(args.repeats)]
            for column, (what, unit) in enumerate((("time", "s"), ("memory", "GiB"))):
                ours, reference = (
                    statistics.median(each[side][column] for each in measured) for side in (0, 1)
                )
                case = f"{kind}, {size}, {args.workers} workers, {what}"
                rows.append({"case": case, "ours": ours, "reference": reference, "unit": unit})
    return rows


def write_cases(root: Path, args: argparse.Namespace) -> None:
    """Write ``ref``, ``masks`` and ``probabilities``: a NIfTI of each for every case."""
    for number in track(range(args.cases), "writing masks"):
        rng = np.random.default_rng(number)
        truth, found = np.zeros((2, args.slices, args.size, args.size), np.uint8)
        for lesion in range(args.lesions):
            radii = rng.uniform(2, 9, 3)
            centre = [int(rng.integers(12, side - 12)) for side in truth.shape]
            _ellipsoid(truth, centre, radii)
            if lesion % 4:  # found, up to a voxel away
                _ellipsoid(found, [c + int(rng.integers(-1, 2)) for c in centre], radii)
            else:
                _ellipsoid(found, [int(rng.integers(12, side - 12)) for side in truth.shape], radii)
        # Like a network's output: nowhere exactly 0, so that it compresses badly.
        noise = 1e-3 * rng.random(truth.shape[1:], np.float32)
        probability = np.stack([np.roll(noise, 7 * k) for k in range(args.slices)])
        probability[found > 0] += 0.9
        for name, volume in (("ref", truth), ("masks", found), ("probabilities", probability)):
            (root / name).mkdir(exist_ok=True)
            affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
            image = nibabel.Nifti1Image(volume.T, affine)
            nibabel.save(image, root / name / f"case{number:02d}.nii.gz")


def _ellipsoid(volume: np.ndarray, centre: list[int], radii: np.ndarray) -> None:
    box = tuple(slice(max(0, c - 10), c + 11) for c in centre)
    grid = np.ogrid[box]
    volume[box] |= sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii)) <= 1


def _ours(root: Path, kind: str, workers: int) -> None:
    references = find_references(root / "ref")
    system = find_system(root / kind, references, None, None, None)
    result = evaluate_folders(references, [system], Rules(), workers=workers)
    assert len(result.systems[0].scores) == len(references), result.damaged
    write_results(result, root / "results")


def _monai(root: Path, kind: str) -> None:
    import torch
    from monai.metrics import (
        DiceMetric,
        HausdorffDistanceMetric,
        SurfaceDiceMetric,
        SurfaceDistanceMetric,
    )

    metrics = (
        HausdorffDistanceMetric(include_background=True, percentile=95),
        SurfaceDistanceMetric(include_background=True, symmetric=True),
        SurfaceDiceMetric([1.0], include_background=True),
    )
    for path in sorted((root / "ref").iterdir()):
        arrays = [
            np.asanyarray(nibabel.load(f / path.name).dataobj) for f in (root / kind, path.parent)
        ]
        tensors = [torch.from_numpy(array >= 0.5)[None, None] for array in arrays]
        DiceMetric()(*tensors)
        for metric in metrics:
            metric(*tensors, spacing=SPACING)


def _cost(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of a call, and peak memory of this process and its workers meanwhile, GiB."""
    own, most, done = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while True:
            total = 0
            for process in (own, *own.children(recursive=True)):
                with suppress(psutil.Error):  # it has just ended
                    total += process.memory_full_info().uss
            most[0] = max(most[0], total)
            if done.wait(0.1):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        seconds = seconds_of(call)
    finally:
        done.set()
        watcher.join()
    return seconds, most[0] / 2**30
