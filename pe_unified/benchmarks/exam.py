"""Exam models against the least time and memory that their work could take.

--parts features: phase two trained on features from disk, against all of them in memory; and the
memory that training takes, against 1 GB. extract: pe-unified extract's own loop, against its
network on the same batches in memory. waiting: the share of an iteration in which training waits
for data, with chunks and with exams of slices. study: a slice model and an exam model with the
same backbone on a study, including the report, against the slice model alone.
"""

import argparse
from typing import Any

import torch

from pe_unified.benchmarks.exam_features import features
from pe_unified.benchmarks.exam_reading import extract, waiting
from pe_unified.benchmarks.exam_study import study

_PARTS = {"features": features, "extract": extract, "waiting": waiting, "study": study}


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(args.threads)
    return [row for part in args.parts for row in _PARTS[part](args)]
