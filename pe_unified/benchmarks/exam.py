"""Models of whole exams beside the least that their work could take.

--parts features: phase two trained on features from disk, against all of them in memory; and the
memory that training takes, against 1 GB. extract: pe-unified extract's own loop, against its
network on the same batches in memory. waiting: the share of an iteration in which training waits
for data, chunks and exams of slices. study: a study through a slice model and an exam model of the
same backbone, report included, against the slice model alone.
"""

import argparse
import importlib
from typing import Any

import torch

#: By the part, the module that measures it.
_MODULES = {
    "features": "exam_features",
    "extract": "exam_reading",
    "waiting": "exam_reading",
    "study": "exam_study",
}


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(args.threads)
    rows = []
    for part in args.parts:
        module = importlib.import_module(f"pe_unified.benchmarks.{_MODULES[part]}")
        rows += getattr(module, part)(args)
    return rows
