"""Top-level names of a config that reach every place they govern.

mmengine copies a value into every place that mentions it while a file is parsed, so a later
override of the top-level name no longer reaches those places. A knob does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config, ConfigDict

from pe_unified.engine.parameters import parameters_of
from pe_unified.image_network import image_network, is_whole_net
from pe_unified.models.data_preprocessor import IMAGENET_MEAN, IMAGENET_STD
from pe_unified.precision import settled_precision

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Place:
    """Where the value of a knob is kept: ``holder[key]``; ``path`` names it in messages."""

    holder: Any
    key: str
    path: str


@dataclass(frozen=True)
class Knob:
    """A top-level name that governs others.

    Attributes:
        places: where its value is kept in a merged config.
        follow: adapts other settings that depend on it.
        settle: resolves a value, for instance for this machine.
        none_counts: None in a place is a value, not a gap for the knob to fill.
        acts: whether ``follow`` has an effect in a config without a place.
    """

    places: Callable[[Config], Iterator[Place]]
    follow: Callable[[Config, Any], None] | None = None
    settle: Callable[[Any], Any] | None = None
    none_counts: bool = False
    acts: Callable[[Config], bool] = lambda cfg: False


def apply_knobs(cfg: Config) -> None:
    """Copy the value of every top-level knob to the places that it governs."""
    for name, knob in KNOBS.items():
        if name in cfg:
            if knob.settle is not None:
                cfg[name] = knob.settle(cfg[name])
            for place in knob.places(cfg):
                place.holder[place.key] = cfg[name]
            if knob.follow is not None:
                knob.follow(cfg, cfg[name])


def governed(cfg: Config) -> Iterator[tuple[str, Place]]:
    """Every place that a knob of this config governs, with the knob's name."""
    for name, knob in KNOBS.items():
        if name in cfg:
            for place in knob.places(cfg):
                yield name, place


def is_idle(cfg: Config, name: str) -> bool:
    """Whether a knob has no effect on a config."""
    return not any(KNOBS[name].places(cfg)) and not KNOBS[name].acts(cfg)


def changed_knobs(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Lines on the knobs whose values differ between two configs that both have them."""
    return [
        f"{name} was {before[name]!r}, is {now[name]!r}"
        for name in KNOBS
        if name in before and name in now and before[name] != now[name]
    ]


def _splits(cfg: Config, splits: Sequence[str] = _SPLITS) -> Iterator[tuple[str, ConfigDict]]:
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        if loader is not None:
            yield f"{split}_dataloader", loader


def _of_loaders(key: str, splits: Sequence[str] = _SPLITS) -> Knob:
    def places(cfg: Config) -> Iterator[Place]:
        for path, loader in _splits(cfg, splits):
            yield Place(loader, key, f"{path}.{key}")

    return Knob(places)


def _of_datasets(key: str, listed: bool = False) -> Knob:
    """Of all data sets; with ``listed``, of those whose config lists the setting."""

    def places(cfg: Config) -> Iterator[Place]:
        for path, loader in _splits(cfg):
            if not listed or key in loader.dataset:
                yield Place(loader.dataset, key, f"{path}.dataset.{key}")

    return Knob(places)


def _of_transforms(key: str, *kinds: str) -> Knob:
    def places(cfg: Config) -> Iterator[Place]:
        for path, loader in _splits(cfg):
            for number, transform in enumerate(loader.dataset.pipeline):
                if kind_of(transform) in kinds:
                    yield Place(transform, key, f"{path}.dataset.pipeline.{number}.{key}")

    return Knob(places)


def _of_image_network(key: str, none_counts: bool = False) -> Knob:
    def places(cfg: Config) -> Iterator[Place]:
        network, path = image_network(cfg.get("model") or {})
        if network and _takes(network, key):
            yield Place(network, key, f"model.{path}.{key}")

    return Knob(places, none_counts=none_counts)


def _of_neighbours(cfg: Config) -> Iterator[Place]:
    """In data sets of slices; for exams, in their steps."""
    for path, loader in _splits(cfg):
        holder = loader.dataset.get("steps") or loader.dataset
        if _takes(holder, "neighbours"):
            inner = "dataset" if holder is loader.dataset else "dataset.steps"
            yield Place(holder, "neighbours", f"{path}.{inner}.neighbours")


def _of_lung_scores(cfg: Config) -> Iterator[Place]:
    """In steps that select slices by them."""
    for path, loader in _splits(cfg):
        steps = loader.dataset.get("steps")
        if steps and _takes(steps, "scores"):
            yield Place(steps, "scores", f"{path}.dataset.steps.scores")


def _takes(part: Mapping[str, Any], key: str) -> bool:
    """Whether a part has a setting, or its class accepts it."""
    return key in part or key in parameters_of(part.get("type"))


def kind_of(part: Mapping[str, Any]) -> str:
    """The name of a part's class; ``type`` is the class, or its name with or without a scope."""
    kind = part.get("type")
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition(".")[2]


def _at(*way: str) -> Callable[[Config], Iterator[Place]]:
    """One place, if the config has all keys that lead to it."""

    def places(cfg: Config) -> Iterator[Place]:
        holder: Any = cfg
        for part in way[:-1]:
            holder = holder.get(part)
            if not holder:
                return
        yield Place(holder, way[-1], ".".join(way))

    return places


def _loaders_persist(cfg: Config, workers: int) -> None:
    for _, loader in _splits(cfg):
        loader.persistent_workers = workers > 0


def _crops_to_lungs(cfg: Config) -> bool:
    steps = (step for _, loader in _splits(cfg) for step in loader.dataset.pipeline)
    return any(kind_of(step) == "CropToLungs" for step in steps)


def _without_lung_crop(cfg: Config, crop: bool) -> None:
    for _, loader in _splits(cfg) if not crop else ():
        pipeline = loader.dataset.pipeline
        loader.dataset.pipeline = [step for step in pipeline if kind_of(step) != "CropToLungs"]


def _schedule_length(cfg: Config, iterations: int) -> None:
    """Fit the schedule to the run; a warm-up keeps its length, up to half of the run.

    A schedule of other parts is left unchanged. Weights that are averaged at the end
    (``swa_share``) are trained at a constant rate, so the schedule ends before them.
    """
    if cfg.get("train_cfg"):
        cfg.train_cfg.val_interval = min(cfg.train_cfg.val_interval, iterations)
    schedulers = cfg.get("param_scheduler") or []
    warms_up = [each["type"].endswith("LinearLR") for each in schedulers]
    if warms_up not in ([True, False], [False]):
        return
    warmup = min(cfg.get("warmup_iters", 0), iterations // 2) if any(warms_up) else 0
    # A warm-up needs two iterations: with one, mmengine's would stay at the initial rate.
    if warmup < 2:
        warmup = 0
        cfg.param_scheduler = schedulers = schedulers[-1:]
    else:
        schedulers[0].end = warmup
    follows = schedulers[-1]
    follows.begin = warmup
    follows.end = iterations
    if cfg.get("swa_share"):
        follows.end = max(iterations - round(cfg.swa_share * iterations), warmup + 1)
        if "eta_min_ratio" in follows:
            follows.eta_min_ratio = cfg.get("swa_lr_ratio", follows.eta_min_ratio)
    if "T_max" in follows:
        follows.T_max = follows.end - warmup


def _of_swa(cfg: Config) -> Iterator[Place]:
    """In the hook that averages weights, if it is SWAHook."""
    average = (cfg.get("default_hooks") or {}).get("average")
    if average and cfg.get("swa_share") and kind_of(average) == "SWAHook":
        yield Place(average, "share", "default_hooks.average.share")


def _average_at_the_end(cfg: Config, share: float | None) -> None:
    """Replace the running average of weights by SWAHook."""
    if share and not any(_of_swa(cfg)):
        cfg.default_hooks.average = {"type": "SWAHook", "share": share}


def _input_channels(cfg: Config, _: Any) -> None:
    """One channel per slice and window; the statistics of three channels are repeated in turn."""
    if "windows" not in cfg or not cfg.get("model"):
        return
    channels = len(cfg.windows) * (2 * (cfg.get("neighbours") or 0) + 1)
    network, _ = image_network(cfg.model)
    if not network:
        return
    if not is_whole_net(cfg.model):
        _set_unless_usual(network, "in_channels", channels)
    if cfg.model.get("seg_head"):
        decoder = cfg.model.seg_head.setdefault("decoder", {})
        if "image_channels" in parameters_of(decoder.get("type", "UNetDecoder")):
            _set_unless_usual(decoder, "image_channels", channels)
    for name, usual in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
        given = cfg.model.data_preprocessor.get(name, usual)
        if len(given) != channels:
            turns = [given[k % len(given)] for k in range(channels)]
            cfg.model.data_preprocessor[name] = turns


def _as_list(windows: Any) -> Any:
    """``windows=pe`` means the same as ``windows=[pe]``."""
    return [windows] if isinstance(windows, str) else windows


def _set_unless_usual(part: ConfigDict, name: str, channels: int) -> None:
    if part.get(name, 3) != channels:
        part[name] = channels


def _evaluation_precision(cfg: Config, precision: str) -> None:
    for loop in ("val_cfg", "test_cfg"):
        if cfg.get(loop):
            cfg[loop].fp16 = precision != "fp32"


#: Top-level names that reach every place they govern.
KNOBS: dict[str, Knob] = {
    "data_root": _of_datasets("data_root"),
    "input_size": _of_transforms("size", "CropToLungs", "ResizeSlice"),
    "lung_crop": Knob(lambda cfg: iter(()), _without_lung_crop, acts=_crops_to_lungs),
    "paste_emboli": _of_transforms("probability", "PasteEmboli"),
    "join_slices": _of_transforms("probability", "JoinSlices"),
    "windows": Knob(_of_transforms("windows", "CTWindows").places, _input_channels, _as_list),
    "neighbours": Knob(_of_neighbours, _input_channels),
    "features": _of_datasets("features"),
    "structures": _of_datasets("structures", listed=True),
    "store": _of_datasets("store", listed=True),
    "step_mm": _of_datasets("step_mm"),
    "patch_size": _of_transforms("size", "LoadVolumePatches"),
    "lung_scores": Knob(_of_lung_scores),
    "batch_size": _of_loaders("batch_size", ("train",)),
    "num_workers": Knob(_of_loaders("num_workers").places, _loaders_persist),
    "masked_label_portion": Knob(_at("train_dataloader", "dataset", "masked_label_portion")),
    "masked_label_mode": Knob(_at("train_dataloader", "dataset", "masked_label_mode")),
    "swa_share": Knob(_of_swa, _average_at_the_end, acts=lambda cfg: True),
    "max_iters": Knob(_at("train_cfg", "max_iters"), _schedule_length),
    "lr": Knob(_at("optim_wrapper", "optimizer", "lr")),
    "accumulate": Knob(_at("optim_wrapper", "accumulative_counts")),
    "precision": Knob(
        _at("optim_wrapper", "precision"),
        _evaluation_precision,
        settled_precision,
        acts=lambda cfg: True,
    ),
    "pretrained": _of_image_network("pretrained", none_counts=True),
    "frozen_stages": _of_image_network("frozen_stages"),
    "preset": _of_image_network("preset"),
    "seed": Knob(_at("randomness", "seed")),
    "vis_backends": Knob(_at("visualizer", "vis_backends")),
}
