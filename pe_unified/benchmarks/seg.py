"""Segmentation networks against the same networks of MONAI and segmentation_models_pytorch.

Both sides use the same batch, losses, optimiser, memory format and normalisation. "training" is
an iteration; "inference" is the answer for one slice, probabilities and mask. "kept" is the memory
that training keeps between the forward and the backward pass, "memory" the most that tensors occupy
during an answer, weights included; both are counted exactly. "operations" of an answer and
"parameters" show how similar the networks are; the command prints how they differ. With
``--configs`` any models are compared with the first of them instead.
"""

import argparse
import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.flop_counter import FlopCounterMode

import pe_unified.models  # noqa: F401  (registers the parts)
from pe_unified.benchmarks.common import side_by_side
from pe_unified.engine import load_config
from pe_unified.image_network import without_start
from pe_unified.models.losses import binary_cross_entropy, pooled_dice_loss
from pe_unified.models.masks import stacked_masks
from pe_unified.models.slice_model import PEUnified
from pe_unified.registry import MODELS
from pe_unified.testing import tiny_batch

_WIDTHS = (32, 64, 128, 256, 512)
_BATCH_NORM = {"norm": "batch", "act": ("relu", {"inplace": True}), "bias": False}


@dataclass(frozen=True)
class Pair:
    """One of our networks, and its counterpart in another library.

    Attributes:
        config: config of ours.
        settings: merged over it.
        library: ``"monai"`` or ``"smp"``.
        arch: class of that library.
        options: options of that class.
        differs: text on how the two differ.
    """

    config: str
    library: str
    arch: str
    options: Mapping[str, Any]
    differs: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def theirs(self) -> nn.Module:
        """The counterpart, with one class, in our memory format."""
        if self.library == "monai":
            from monai.networks import nets

            shape = dict(spatial_dims=2, in_channels=3, out_channels=1)
            net = getattr(nets, self.arch)(**shape, **self.options)
        else:
            import segmentation_models_pytorch as smp

            net = getattr(smp, self.arch)(encoder_weights=None, **self.options)
        return net.to(memory_format=torch.channels_last)


def _decoder(**options: Any) -> dict[str, Any]:
    return dict(model=dict(seg_head=dict(decoder=dict(_delete_=True, **options))))


#: By their names on the command line.
PAIRS: dict[str, Pair] = {
    "unet": Pair(
        "unets/unet",
        "monai",
        "BasicUNet",
        dict(features=(*_WIDTHS, 32), upsample="nontrainable", **_BATCH_NORM),
        "theirs halves the channels by a 1x1 convolution before it enlarges",
    ),
    "attention_unet": Pair(
        "unets/attention_unet",
        "monai",
        "AttentionUnet",
        dict(channels=_WIDTHS, strides=(2, 2, 2, 2)),
        "theirs has strided and transposed convolutions, one convolution per block of the decoder, "
        "and gates at full size",
    ),
    "unet_plus_plus": Pair(
        "unets/unet_plus_plus",
        "monai",
        "BasicUNetPlusPlus",
        dict(features=(*_WIDTHS, 32), upsample="nontrainable", **_BATCH_NORM),
        "theirs halves the channels by 1x1 convolutions before it enlarges; no deep supervision on "
        "either side",
        dict(model=dict(seg_head=dict(decoder=dict(deep_supervision=False)))),
    ),
    "resnet34": Pair(
        "unets/unet_resnet34",
        "smp",
        "Unet",
        dict(encoder_name="resnet34", decoder_channels=(256, 128, 64, 32, 16)),
        "theirs also joins the stem, at stride 2",
        _decoder(
            type="UNetDecoder", channels=(256, 128, 64, 32, 16), skip_channels=None, out_stride=1
        ),
    ),
    "smp_unet_plus_plus": Pair(
        "unets/smp_unet_plus_plus",
        "smp",
        "UnetPlusPlus",
        dict(encoder_name="resnet34"),
        "the same net by our adapter, whose last convolution is 1x1, theirs 3x3",
    ),
}


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = []
    if args.configs:
        first = model_of(args.configs[0])
        for config in args.configs:
            gc.collect()
            rows += _rows(config, (model_of(config), first), args)
        return rows
    for name in args.nets:
        gc.collect()  # models with hooks are in cycles
        pair = PAIRS[name]
        print(f"{name}, beside {pair.library}'s {pair.arch}: {pair.differs}")
        ours = model_of(pair.config, pair.settings)
        rows += _rows(name, (ours, _Reference(ours, pair.theirs())), args)
    return rows


def model_of(config: str, settings: Mapping[str, Any] | None = None) -> PEUnified:
    """The model of a config, with random weights; ``settings`` are merged over it."""
    cfg = load_config(config, settings=[settings or {}])
    without_start(cfg.model)
    with DefaultScope.overwrite_default_scope("pe_unified"):
        return MODELS.build(cfg.model)


def _rows(
    name: str, sides: tuple[nn.Module, nn.Module], args: argparse.Namespace
) -> list[dict[str, Any]]:
    batch = tiny_batch((args.size, args.size), batch_size=args.batch_size, labels=("seg",))
    single = {key: values[:1] for key, values in batch.items()}
    shown = f"{args.size} x {args.size}"
    steps = [_iteration(side, batch, args.amp) for side in sides]
    kept = [_kept(lambda step=step: step(back=False)) for step in steps]
    training = side_by_side(*steps, args.repeats, warmup=2)
    answers = [_answer(side, single, args.amp) for side in sides]
    inference = side_by_side(*answers, args.repeats, warmup=2)
    operations = [_operations(answer) for answer in answers]
    memory = [_memory(side, answer) for side, answer in zip(sides, answers, strict=True)]
    counts = [sum(each.numel() for each in side.parameters()) / 1e6 for side in sides]
    return [
        {"case": f"{name}, {case}", "ours": pair_of[0], "reference": pair_of[1], "unit": unit}
        for case, pair_of, unit in (
            (f"training, {args.batch_size} x {shown}", training, "s per iteration"),
            (f"inference, {shown}", inference, "s per slice"),
            (f"kept, {args.batch_size} x {shown}", kept, "MiB"),
            (f"memory, {shown}", memory, "MiB"),
            (f"operations, {shown}", operations, "GFLOP per slice"),
            ("parameters", counts, "M"),
        )
    ]


class _Reference(nn.Module):
    """A network of another library, used as without this package, on the same input."""

    def __init__(self, ours: PEUnified, net: nn.Module) -> None:
        super().__init__()
        self.data_preprocessor = ours.data_preprocessor
        self.net = net

    def forward(self, inputs: Tensor, data_samples: list, mode: str) -> Any:
        found = self.net(inputs)
        logits = (found[-1] if isinstance(found, list) else found).float()
        if mode == "predict":
            probability = logits.sigmoid()
            return probability, probability > 0.5
        target = stacked_masks(data_samples, inputs.shape[-2:])
        return {
            "loss_dice": pooled_dice_loss(logits, target),
            "loss_bce": binary_cross_entropy(logits, target),
        }


def _iteration(model: nn.Module, batch: dict[str, list], amp: bool) -> Callable[..., None]:
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def once(back: bool = True) -> None:
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            losses = model(**model.data_preprocessor(dict(batch), True), mode="loss")
        if back:
            optimiser.zero_grad()
            sum(losses.values()).backward()
            optimiser.step()

    return once


def _answer(model: nn.Module, batch: dict[str, list], amp: bool) -> Callable[[], None]:
    def once() -> None:
        model.eval()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
            model(**model.data_preprocessor(dict(batch)), mode="predict")

    return once


def _operations(answer: Callable[[], None]) -> float:
    """Operations of convolutions and matrix products, 1e9."""
    with FlopCounterMode(display=False) as counter:
        answer()
    return counter.get_total_flops() / 1e9


def _memory(model: nn.Module, answer: Callable[[], None]) -> float:
    """The most memory that weights and tensors occupy during an answer, MiB."""
    tracker = MemTracker()
    tracker.track_external(model)
    with tracker:
        answer()
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    return peak["Total"] / 2**20


def _kept(forward: Callable[[], None]) -> float:
    """Memory that a forward pass keeps for the backward pass, MiB; weights are not counted."""
    held: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(held.values()) / 2**20
