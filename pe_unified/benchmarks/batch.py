"""Many studies on all cores, against one process on one core.

"ours" is the time of ``pe-unified batch`` on all studies, with a worker on each core; "reference"
is that of the same command on one core with that core's share of the studies, as the mean over
the shares. Both run from the command to the last report, including loading the model. A ratio of
1.0 means that no core waits for another.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pe_unified.benchmarks.models import BACKBONES, untrained_checkpoint
from pe_unified.benchmarks.studies import painted_studies
from pe_unified.errors import UserError


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    cores = sorted(os.sched_getaffinity(0))[: args.workers]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        place = args.studies or painted_studies(folder, 4 * args.workers, args.slices, args.size)
        studies = sorted(place.resolve().iterdir())
        if len(cores) < args.workers or len(studies) % args.workers:
            raise UserError(
                f"{len(studies)} studies for {args.workers} workers on {len(cores)} cores: as many "
                "cores as workers are needed, and a multiple of them as studies"
            )
        checkpoint = args.checkpoint or untrained_checkpoint(BACKBONES["R50"], folder)
        shares = [studies[first :: args.workers] for first in range(args.workers)]
        alone = [
            _seconds(checkpoint, share, [core], folder / f"share{core}")
            for core, share in zip(cores, shares, strict=True)
        ]
        together = _seconds(checkpoint, studies, cores, folder / "all")
    return [
        {
            "case": f"{len(studies)} studies, {args.workers} workers / one core with its share",
            "ours": together,
            "reference": fmean(alone),
            "unit": "s",
        }
    ]


def _seconds(checkpoint: Path, studies: Sequence[Path], cores: Sequence[int], out: Path) -> float:
    """Seconds of ``pe-unified batch`` on some studies, only on these cores, a worker on each."""
    out.mkdir()
    root = out / "studies"
    root.mkdir()
    for study in studies:
        (root / study.name).symlink_to(study)
    words = ["batch", root, "--checkpoint", checkpoint, "--out", out / "reports", "--device", "cpu"]
    command = [sys.executable, "-m", "pe_unified", *map(str, words), "--workers", str(len(cores))]
    start = time.perf_counter()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    if done.returncode:
        raise UserError(done.stderr.strip() or f"{' '.join(command)} failed")
    return time.perf_counter() - start
