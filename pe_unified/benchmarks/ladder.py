"""From three stock models as they come to one shared backbone, one change at a time.

A competent user of the stock frameworks can make all changes up to "small-lesion settings"; the
gain from sharing the backbone is measured from there. Only the networks are timed, on slices that
are read and cropped beforehand; every slice goes through all three tasks on every rung (no gate).
"""

import copy
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.model import BaseModel

from pe_unified.benchmarks.models import UNTRAINED_PRIOR, unified_config
from pe_unified.inference.model import InferenceModel
from pe_unified.models.slice_model import PEUnified
from pe_unified.models.stock import as_channels_last, copy_to_stock, stock_batch, stock_models
from pe_unified.precision import autocast
from pe_unified.progress import track
from pe_unified.registry import MODELS

#: Largest difference of a rung's logits from those of the same weights in plain float32: norm of
#: the difference over norm of the logits' spread. An untrained classifier gives nearly the same
#: logits for all slices, so rounding to bfloat16 alone may take a fifth of their spread; unrelated
#: logits differ by more than all of it.
MOST_DIFFERENCE = {"fp32": 1e-3, "bf16": 0.5}
#: A GPU rounds the factors of convolutions to 10 bits, also in float32.
_ON_GPU = 10.0
STOCK, TUNED, SHARED, OURS = (
    "three stock models as they come",
    "small-lesion settings",
    "shared backbone",
    "our own heads",
)


@dataclass(frozen=True, eq=False)
class Rung:
    """One way to get all three answers.

    Attributes:
        name: what it changes relative to the rung before.
        models: by task, or one PEUnified for all.
        plain: models with the same weights in float32, nothing fused, a slice at a time.
        precision: ``"fp32"`` or ``"bf16"``.
        batch_size: slices in one pass.
        cropped: whether it takes slices cropped to the lungs.
        device: where the models are.
    """

    name: str
    models: Mapping[str, BaseModel]
    plain: Mapping[str, BaseModel]
    precision: str = "fp32"
    batch_size: int = 1
    cropped: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def run(self, packed: Sequence[dict[str, Any]]) -> None:
        """Compute all answers for slices that a pipeline packed."""
        with torch.inference_mode(), autocast(self.precision, self.device.type):
            for start in range(0, len(packed), self.batch_size):
                batch = _batch(packed[start : start + self.batch_size])
                for task, model in self.models.items():
                    model.test_step(stock_batch(batch, task))

    def difference(self, packed: Sequence[dict[str, Any]]) -> float:
        """Largest difference of a task's logits from those of :attr:`plain`.

        See :data:`MOST_DIFFERENCE` for the unit.
        """
        plain = replace(self, models=self.plain, precision="fp32", batch_size=1)
        wanted, found = plain._logits(packed), self._logits(packed)
        return max(
            float((found[task] - wanted[task]).norm() / (wanted[task] - wanted[task].mean()).norm())
            for task in wanted
        )

    def _logits(self, packed: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """By task, all logits of the dense network in one vector: slice, pixels, anchors."""
        logits: dict[str, list[torch.Tensor]] = {"cls": [], "seg": [], "det": []}
        with torch.inference_mode(), autocast(self.precision, self.device.type):
            for start in range(0, len(packed), self.batch_size):
                batch = _batch(packed[start : start + self.batch_size])
                for task, model in self.models.items():
                    inputs = model.data_preprocessor(stock_batch(batch, task))["inputs"]
                    for name, raw in _raw_outputs(model, task, inputs).items():
                        # Slice by slice, so that the order does not depend on the batch.
                        for row in range(len(inputs)):
                            logits[name] += [level[row].float().flatten() for level in raw]
        return {name: torch.cat(values) for name, values in logits.items()}


def _raw_outputs(
    model: BaseModel, task: str, inputs: torch.Tensor
) -> dict[str, Sequence[torch.Tensor]]:
    if isinstance(model, PEUnified):
        raw = model(inputs)
        return {"cls": [raw["cls"]], "seg": [raw["seg"]], "det": raw["det"][0]}
    levels = model.extract_feat(inputs)
    if task == "det":
        return {task: model.rpn_head(levels)[0]}
    return {task: [model.head(levels) if task == "cls" else model.decode_head(levels)]}


def _batch(packed: Sequence[dict[str, Any]]) -> dict[str, list]:
    return {key: [each[key] for each in packed] for key in ("inputs", "data_samples")}


def build_rungs(backbone: Mapping[str, Any], ours: InferenceModel, batch_size: int) -> list[Rung]:
    """The ladder, from the bottom.

    Args:
        backbone: config, for the stock models and for the shared backbone with the same heads.
        ours: the model of the last rung, as inference loads it; its device applies to all, its
            precision and size from the rungs that change them. With ``"fp32"`` one rung is left
            out.
        batch_size: slices in one pass, from the rung with batches on.
    """
    torch.manual_seed(0)
    stock = _equal_models(backbone, False, ours.device)[1]
    rungs = [Rung(STOCK, stock, stock, device=ours.device)]

    def add(name: str, **changes: Any) -> None:
        rungs.append(replace(rungs[-1], name=name, **changes))

    fused = {task: _fused(model) for task, model in stock.items()}
    add("fused batch norms", models=fused)
    tuned = {task: as_channels_last(copy.deepcopy(model)) for task, model in fused.items()}
    add("channels last", models=tuned)
    if ours.precision == "bf16":
        add("bfloat16", precision="bf16")
    add(f"batches of {batch_size}", batch_size=batch_size)
    add(f"crop to the lungs, {ours.size[0]} x {ours.size[1]}", cropped=True)
    shared, small = _equal_models(backbone, True, ours.device)
    tuned = {task: as_channels_last(_fused(model)) for task, model in small.items()}
    add(TUNED, models=tuned, plain=small)
    add(SHARED, models={"all": _fused(shared)})
    add(OURS, models={"all": ours.model}, plain={"all": ours.model})
    return rungs


def _equal_models(
    backbone: Mapping[str, Any], small_lesions: bool, device: torch.device
) -> tuple[PEUnified, dict[str, BaseModel]]:
    """A PEUnified, and the stock models with its weights."""
    config = unified_config(dict(backbone), small_lesions)
    config["seg_head"]["prior"] = UNTRAINED_PRIOR
    shared = MODELS.build(config).eval()
    stock = stock_models(config)
    for task, model in stock.items():
        copy_to_stock(shared, model, task)
        model.eval().to(device)
    return shared.to(device), stock


def _fused(model: BaseModel) -> BaseModel:
    """A copy with batch norms fused into the convolutions before them."""
    return fuse_conv_bn(copy.deepcopy(model))


def require_equal(
    rungs: Sequence[Rung], whole: Sequence[dict[str, Any]], cropped: Sequence[dict[str, Any]]
) -> None:
    """Compare what every rung computes with its weights in plain float32, on a batch of slices.

    Args:
        rungs, whole, cropped: as for :func:`measure`.

    Raises:
        SystemExit: the logits of a rung differ by more than :data:`MOST_DIFFERENCE`.
    """
    together = max(rung.batch_size for rung in rungs)
    for rung in track(rungs[1:], "comparing, rungs"):  # the first one is plain itself
        difference = rung.difference((cropped if rung.cropped else whole)[:together])
        print(f"{rung.name}: logits within {difference:.1e} of the same weights in plain float32")
        most = MOST_DIFFERENCE[rung.precision]
        if not difference <= (most if rung.device.type == "cpu" else most * _ON_GPU):
            raise SystemExit(
                f"{rung.name}: its logits differ from those of the same weights in plain float32 "
                f"by {difference:.2g} of their spread; nothing was timed"
            )


def clocks(device: torch.device) -> tuple[float, float]:
    """Seconds of all cores and elapsed seconds, when the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time(), time.perf_counter()


def measure(
    rungs: Sequence[Rung],
    whole: Sequence[dict[str, Any]],
    cropped: Sequence[dict[str, Any]],
    where: str,
) -> list[dict[str, Any]]:
    """Time all rungs in turn on the same few slices.

    Args:
        rungs: from :func:`build_rungs`.
        whole, cropped: the same slices for either kind of rung, packed; the first batch of
            them warms up.
        where: what was measured, for the rows' cases.

    Returns:
        Rows: ours against the tuned stock models, then every rung against the one before and
        against the stock models as they come. Times are medians over batches: on a CPU the
        seconds of all cores, which hardly depend on other load of the machine; on a GPU elapsed
        seconds.

    Raises:
        SystemExit: too few slices.
    """
    together = max(rung.batch_size for rung in rungs)
    starts = range(0, len(whole) - together + 1, together)
    if len(starts) < 2:
        raise SystemExit(f"the ladder needs {2 * together} slices with lungs, got {len(whole)}")
    slices = {rung.name: cropped if rung.cropped else whole for rung in rungs}
    cpu, wall = ({rung.name: [] for rung in rungs} for _ in range(2))
    for turn, start in enumerate(track(starts, "ladder, batches")):
        shift = turn % len(rungs)
        for rung in (*rungs[shift:], *rungs[:shift]):
            packed = slices[rung.name][start : start + together]
            before = clocks(rung.device)
            rung.run(packed)
            after = clocks(rung.device)
            if turn:  # the first one warms up
                cpu[rung.name].append((after[0] - before[0]) / together)
                wall[rung.name].append((after[1] - before[1]) / together)
    on_cpu = rungs[0].device.type == "cpu"
    seconds = {
        name: statistics.median(values) for name, values in (cpu if on_cpu else wall).items()
    }
    for name in seconds:
        cores, elapsed = statistics.median(cpu[name]), statistics.median(wall[name])
        print(f"{name}: {cores:.3f} CPU s, {elapsed:.4f} s per slice")

    def row(case: str, ours: str, reference: str) -> dict[str, Any]:
        return {
            "case": f"{where}: {case}",
            "ours": seconds[ours],
            "reference": seconds[reference],
            "unit": "CPU s per slice" if on_cpu else "s per slice",
        }

    rows = [row("ours / tuned stock models", OURS, TUNED)]
    for below, rung in pairwise(rungs):
        rows.append(row(f"+ {rung.name} / the rung before", rung.name, below.name))
    rows += [row(f"{rung.name} / {STOCK}", rung.name, STOCK) for rung in rungs[1:]]
    return rows
