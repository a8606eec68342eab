"""Exams read from slices: extraction against its network alone, and waiting for data."""

import argparse
import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from torch import nn

from pe_unified.benchmarks.common import side_by_side
from pe_unified.benchmarks.studies import converted_set
from pe_unified.datasets.exam_dataset import PEExamDataset
from pe_unified.datasets.feature_store import FeatureSource, FeatureStore
from pe_unified.datasets.slice_dataset import Draw
from pe_unified.engine import load_config
from pe_unified.engine.extract import exams_of, extract_set
from pe_unified.engine.pace import pace_of
from pe_unified.memory import keep_freed_memory
from pe_unified.models.exam_batches import STEPS_AT_ONCE, encode_steps
from pe_unified.precision import autocast
from pe_unified.registry import MODELS

_EXTRACTED = "exam/shared_features"
#: Chunks, and exams of slices.
_TRAINED = ("exam/two_phase_chunks", "exam/semi_weak")


def _data(args: argparse.Namespace) -> AbstractContextManager[Path]:
    return converted_set(args.data_root, "rsna", args.studies, args.study_slices, (1, 0, 0))


def _config(args: argparse.Namespace, name: str, root: Path) -> Config:
    overrides: dict[str, Any] = {"pretrained": None}
    if args.workers is not None:
        overrides["num_workers"] = args.workers
    if args.input_size:
        overrides["input_size"] = args.input_size
    return load_config(name, overrides, str(root))


def waiting(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the wait for data, in training on chunks and on exams of slices."""
    rows = []
    with _data(args) as root:
        for name in _TRAINED:
            cfg = _config(args, name, root)
            pace = pace_of(cfg, args.warmup, args.iterations)
            rows.append(
                {
                    "case": f"{name}, {cfg.input_size} x {cfg.input_size}, batch "
                    f"{cfg.batch_size}, {cfg.num_workers} workers: wait for data / iteration",
                    "ours": pace.waiting,
                    "reference": pace.iteration,
                    "unit": "s",
                }
            )
    return rows


def extract(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The row of extraction."""
    keep_freed_memory()  # as the command does
    with _data(args) as root, tempfile.TemporaryDirectory() as scratch:
        cfg = _config(args, _EXTRACTED, root)
        with DefaultScope.overwrite_default_scope("pe_unified"):
            model = MODELS.build(cfg.model).eval().to(get_device())
            exams = exams_of(cfg, "train")
        store = FeatureStore.create(Path(scratch), FeatureSource({}, "", [], {}, {}))

        def ours() -> None:
            for path in store.folder.glob("*.npy"):
                path.unlink()
            extract_set(cfg, model, exams, store)

        batches = _in_memory(model, exams)
        slices = sum(int(mask.sum()) for _, mask in batches)
        seconds = side_by_side(ours, lambda: _encode(cfg, model, batches), args.repeats)
        shutil.rmtree(store.folder)
    return [
        {
            "case": f"{_EXTRACTED}, {cfg.input_size} x {cfg.input_size}, {len(exams)} exams, "
            f"{cfg.num_workers} workers: extraction / network on batches in memory",
            "ours": seconds[0] / slices,
            "reference": seconds[1] / slices,
            "unit": "s per slice",
        }
    ]


def _in_memory(model: nn.Module, exams: PEExamDataset) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The encoder's input for every exam, and its mask."""
    preprocessor: Any = model.data_preprocessor
    items = (exams[Draw(number, 0)] for number in range(len(exams)))
    batches = (preprocessor({"inputs": [item["inputs"]]}) for item in items)
    return [(batch["inputs"], batch["mask"]) for batch in batches]


def _encode(
    cfg: Config, model: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    encoder: Any = model.encoder
    with torch.inference_mode(), autocast(cfg.precision):
        for inputs, mask in batches:
            encode_steps(encoder, inputs, mask, STEPS_AT_ONCE).float().cpu()
