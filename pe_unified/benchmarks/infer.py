"""One pass with three heads against three stock models, one after another, on CPU.

Cases by backbone. "same settings": the stock models have exactly our parts and weights
(mmdet's own Faster R-CNN settings), and the outputs are compared before anything is timed.
"small-lesion": our defaults for emboli against the same stock models.
"""

import argparse
from typing import Any

import torch
from torch import nn

from pe_unified.benchmarks.common import side_by_side
from pe_unified.benchmarks.models import BACKBONES, unified_config
from pe_unified.models.stock import (
    as_channels_last,
    copy_to_stock,
    largest_difference,
    stock_batch,
    stock_models,
)
from pe_unified.registry import MODELS
from pe_unified.testing import tiny_batch


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(args.threads)
    batch = tiny_batch((args.size, args.size), batch_size=1)
    rows = []
    for name in args.backbones:
        same = MODELS.build(unified_config(BACKBONES[name])).eval()
        own = unified_config(BACKBONES[name], small_lesions=True, own_heads=True)
        small = MODELS.build(own).eval()
        stock = stock_models(unified_config(BACKBONES[name]))
        for task, model in stock.items():
            copy_to_stock(same, model, task)
            as_channels_last(model)
            model.eval()
        difference = largest_difference(same, stock, batch)
        if difference > 1e-4:
            raise SystemExit(f"{name}: outputs differ from the stock models by {difference:.2e}")
        print(f"{name}: largest difference from the stock models: {difference:.1e}")
        for case, ours in (("same settings", same), ("small-lesion", small)):
            seconds = _timed(ours, stock, batch, args)
            rows.append(
                {
                    "case": f"{name}, {case}, {args.size} x {args.size}",
                    "ours": seconds[0],
                    "reference": seconds[1],
                    "unit": "s per slice",
                }
            )
    return rows


def _timed(
    ours: nn.Module, stock: dict[str, nn.Module], batch: dict[str, list], args: argparse.Namespace
) -> tuple[float, float]:
    def once(models: dict[str, nn.Module]) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=args.amp):
            for task, model in models.items():
                model.test_step(stock_batch(batch, task))

    return side_by_side(lambda: once({"all": ours}), lambda: once(stock), args.repeats)
