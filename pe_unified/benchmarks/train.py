"""One training iteration with one head, against the stock model with the same parts.

Both sides start from equal weights and use the same batch, optimiser, memory format and
preprocessor; the stock side is mmpretrain's ImageClassifier, mmseg's EncoderDecoder and
mmdet's FasterRCNN (with its own settings).
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper

from pe_unified.benchmarks.common import side_by_side
from pe_unified.benchmarks.models import BACKBONES, detection
from pe_unified.models.stock import as_channels_last, copy_to_stock, stock_batch, stock_models
from pe_unified.registry import MODELS
from pe_unified.testing import tiny_batch

#: Heads that mmpretrain, mmseg and mmdet can express: see pe_unified.models.stock.
HEADS = {
    "cls": dict(type="PEClsHead", pool="avg"),
    "seg": dict(type="PESegHead", losses=[dict(type="PixelCrossEntropyLoss")]),
    "det": detection(small_lesions=False),
}


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(args.threads)
    rows = []
    for name in args.backbones:
        for task in args.heads:
            ours, stock = _equal_models(BACKBONES[name], task)
            batch = tiny_batch((args.size, args.size), batch_size=args.batch_size)
            seconds = side_by_side(
                _iteration(ours, stock_batch(batch, "any"), args.amp),
                _iteration(stock, stock_batch(batch, task), args.amp),
                args.repeats,
                warmup=2,
            )
            rows.append(
                {
                    "case": f"{name}, {task}, {args.batch_size} x {args.size} x {args.size}",
                    "ours": seconds[0],
                    "reference": seconds[1],
                    "unit": "s per iteration",
                }
            )
    return rows


def _equal_models(backbone: dict[str, Any], task: str) -> tuple[BaseModel, BaseModel]:
    config = dict(
        type="PEUnified",
        data_preprocessor=dict(type="PEDataPreprocessor", channels_last=True),
        backbone=backbone,
        **{f"{task}_head": HEADS[task]},
    )
    ours = MODELS.build(config)
    stock = stock_models(config)[task]
    copy_to_stock(ours, stock, task)
    as_channels_last(stock)
    ours.train()
    stock.train()
    return ours, stock


def _iteration(model: BaseModel, batch: dict[str, list], amp: bool) -> Callable[[], None]:
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9))

    def once() -> None:
        torch.manual_seed(0)  # both sides draw the same samples and drop the same paths
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            losses = model(**model.data_preprocessor(dict(batch), True), mode="loss")
        wrapper.update_params(model.parse_losses(losses)[0])

    return once
