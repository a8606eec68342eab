"""Time that training waits for data, as a share of an iteration.

Trains a few iterations of a real config on generated 512 x 512 slices (or on --data-root) and
measures the time from requesting a batch to receiving it. "ours" is that wait, "reference" the
whole iteration.
"""

import argparse
from pathlib import Path
from typing import Any

from pe_unified.benchmarks.studies import converted_set
from pe_unified.engine import load_config
from pe_unified.engine.pace import pace_of


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    with converted_set(args.data_root, "fumpe", 6, 24, (0.4, 0.3, 0.3)) as root:
        return [_measure(args, name, root) for name in args.configs]


def _measure(args: argparse.Namespace, name: str, root: Path) -> dict[str, Any]:
    overrides = {
        "pretrained": None,
        "input_size": args.input_size,
        "batch_size": args.batch_size,
        "num_workers": args.workers,
    }
    cfg = load_config(name, overrides, str(root))
    pace = pace_of(cfg, args.warmup, args.iterations)
    return {
        "case": f"{name}, {args.input_size} x {args.input_size}, batch {args.batch_size}, "
        f"{args.workers} workers: wait for data / iteration",
        "ours": pace.waiting,
        "reference": pace.iteration,
        "unit": "s",
    }
