"""A slice model and an exam model with the same backbone on a study, against the first alone."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from pe_unified.benchmarks.common import in_turn
from pe_unified.benchmarks.studies import painted
from pe_unified.engine import load_config
from pe_unified.inference.exam import load_exam_model
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.memory import keep_freed_memory
from pe_unified.registry import MODELS
from pe_unified.reports.analysis import analyse_study


def study(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The row of a study; both models are untrained, which hardly changes their work."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = (args.study or painted(folder, args.long)).resolve()
        slices, exams = untrained_pair(folder, args.input_size)
        model = load_model(slices, device="cpu")
        alone = StudyPredictor(model)
        both = StudyPredictor(model, exam_model=load_exam_model(exams, device="cpu"))
        reports: list[dict[str, Any]] = []

        def seconds(predictor: StudyPredictor) -> float:
            reports.append(analyse_study(path, folder / "out", predictor))
            return reports[-1]["seconds"]["total"]

        ours, reference = in_turn(lambda: seconds(both), lambda: seconds(alone), args.repeats)
    told = next(each for each in reports if each["exam_model"])
    stages = ", ".join(f"{name} {value:.2f} s" for name, value in told["seconds"].items())
    print(f"with the exam model, which shares the backbone ({both.shares_backbone}): {stages}")
    size = " x ".join(map(str, model.size))
    return [
        {
            "case": f"{len(told['slices'])} slices of {told['input']['rows']} x "
            f"{told['input']['cols']}, network {size}: slice and exam model / slice model",
            "ours": ours,
            "reference": reference,
            "unit": "s per study",
        }
    ]


def untrained_pair(folder: Path, input_size: int | None = None) -> tuple[Path, Path]:
    """Checkpoints of pe_cls_r50, and of the model of the recipe exam/shared on its backbone."""
    overrides: dict[str, Any] = {"pretrained": None}
    if input_size:
        overrides["input_size"] = input_size
    slices = load_config("pe_cls_r50", overrides)
    exams = load_config("exam/shared_features", overrides)
    heads = load_config("exam/shared_gru").model
    exams.model |= {name: heads[name] for name in ("aggregator", "step_head", "exam_head")}
    paths = folder / "slices.pth", folder / "exams.pth"
    weights = _weights(slices)
    _save(paths[0], slices, weights)
    shared = {
        f"encoder.{name}": value for name, value in weights.items() if name.startswith("backbone.")
    }
    _save(paths[1], exams, {**_weights(exams), **shared})
    return paths


def _weights(cfg: Config) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("pe_unified"):
        return MODELS.build(cfg.model).state_dict()


def _save(path: Path, cfg: Config, weights: dict[str, torch.Tensor]) -> None:
    torch.save({"meta": {"cfg": cfg.to_dict()}, "state_dict": weights}, path)
