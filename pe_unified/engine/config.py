"""Reading configs: inheritance from mmengine, strict overrides, knobs that reach everywhere.

mmengine copies a value into every place that mentions it while a file is parsed, so a
later override of the top-level name no longer reaches those places. The names in
:data:`KNOBS` do: whatever value stands at the top level once files and overrides are
merged is carried to all its places.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict


class ConfigError(ValueError):
    """A config or an override of it cannot be used; the message says what to change."""


_SPLITS = ("train", "val", "test")


def load_config(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    data_root: str | None = None,
    settings: Sequence[Mapping[str, Any]] = (),
) -> Config:
    """Read a config, apply overrides, set the knobs.

    Args:
        path: a Python config.
        overrides: dotted keys to values, as ``--cfg-options`` gives them.
        data_root: the data set's folder; the same as overriding the knob ``data_root``.
        settings: merged over the file in turn before the overrides, as inheriting configs
            would be; may bring new keys. What they say of a head that the config leaves out
            is passed over, so that one set of settings serves configs of several tasks.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: an override names a key that the config does not have; the message
            offers the nearest ones.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no config at {path}; the ready ones are in configs/")
    cfg = Config.fromfile(path)
    for each in settings:
        cfg.merge_from_dict(_for_its_heads(cfg, each))
    overrides = dict(overrides or {})
    if data_root is not None:
        overrides["data_root"] = str(data_root)
    for key in overrides:
        _require_key(cfg, key)
        _refuse_copied(cfg, key)
    cfg.merge_from_dict(overrides)
    apply_knobs(cfg)
    return cfg


def _for_its_heads(cfg: Config, settings: Mapping[str, Any]) -> dict[str, Any]:
    model = cfg.get("model") or {}
    wanted = dict(settings.get("model") or {})
    absent = [name for name in wanted if name in model and model[name] is None]
    if not absent:
        return dict(settings)
    return {
        **settings,
        "model": {name: value for name, value in wanted.items() if name not in absent},
    }


def _require_key(cfg: Config, dotted: str) -> None:
    node: Any = cfg._cfg_dict
    walked: list[str] = []
    for part in dotted.split("."):
        if isinstance(node, list | tuple) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        else:
            here = ".".join(walked) or "the config"
            known = [str(key) for key in node] if isinstance(node, dict) else []
            near = difflib.get_close_matches(part, known, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ConfigError(
                f"override '{dotted}': {here} has no '{part}'{hint} Known there: "
                f"{', '.join(known) or 'nothing'}"
            )
        walked.append(part)


def _refuse_copied(cfg: Config, dotted: str) -> None:
    """Overriding a pipeline's variable would change nothing: the loaders hold copies."""
    first, _, rest = dotted.partition(".")
    split, _, kind = first.partition("_")
    if kind == "pipeline" and f"{split}_dataloader" in cfg:
        place = f"{split}_dataloader.dataset.pipeline"
        raise ConfigError(
            f"override '{dotted}' would reach no data loader; use "
            f"'{'.'.join([place, rest]) if rest else place}'"
        )


def apply_knobs(cfg: Config) -> None:
    """Carry every top-level knob to the places that it governs."""
    for name, setter in KNOBS.items():
        if name in cfg:
            setter(cfg, cfg[name])


def _dataloaders(cfg: Config, splits: tuple[str, ...] = _SPLITS) -> Iterator[ConfigDict]:
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        if loader is not None:
            yield loader


def _transforms(cfg: Config, kind: str) -> Iterator[ConfigDict]:
    for loader in _dataloaders(cfg):
        for transform in loader.dataset.pipeline:
            if transform["type"] == kind:
                yield transform


def _set_data_root(cfg: Config, value: str) -> None:
    for loader in _dataloaders(cfg):
        loader.dataset.data_root = value


def _set_input_size(cfg: Config, value: int | tuple[int, int]) -> None:
    for kind in ("CropToLungs", "ResizeSlice"):
        for transform in _transforms(cfg, kind):
            transform.size = value


def _set_windows(cfg: Config, value: list) -> None:
    for transform in _transforms(cfg, "CTWindows"):
        transform.windows = value


def _set_neighbours(cfg: Config, value: int) -> None:
    for loader in _dataloaders(cfg):
        loader.dataset.neighbours = value


def _set_batch_size(cfg: Config, value: int) -> None:
    for loader in _dataloaders(cfg, ("train",)):
        loader.batch_size = value


def _set_num_workers(cfg: Config, value: int) -> None:
    for loader in _dataloaders(cfg):
        loader.num_workers = value
        loader.persistent_workers = value > 0


def _set_max_iters(cfg: Config, value: int) -> None:
    """The schedule's length; warm-up keeps its own, up to half of it."""
    if cfg.get("train_cfg"):
        cfg.train_cfg.max_iters = value
        cfg.train_cfg.val_interval = min(cfg.train_cfg.val_interval, value)
    warmup = min(cfg.get("warmup_iters", 0), value // 2)
    for scheduler in cfg.get("param_scheduler") or ():
        if scheduler["type"].endswith("LinearLR"):
            scheduler.end = max(warmup, 1)
        else:
            scheduler.begin = warmup
            scheduler.end = value
            if "T_max" in scheduler:
                scheduler.T_max = value - warmup


def _set_lr(cfg: Config, value: float) -> None:
    if cfg.get("optim_wrapper"):
        cfg.optim_wrapper.optimizer.lr = value


def _set_accumulate(cfg: Config, value: int) -> None:
    if cfg.get("optim_wrapper"):
        cfg.optim_wrapper.accumulative_counts = value


def _set_precision(cfg: Config, value: str) -> None:
    if cfg.get("optim_wrapper"):
        cfg.optim_wrapper.precision = value
    for loop in ("val_cfg", "test_cfg"):
        if cfg.get(loop):
            cfg[loop].fp16 = value != "fp32"


def _set_pretrained(cfg: Config, value: str | None) -> None:
    cfg.model.backbone.pretrained = value


def _set_frozen_stages(cfg: Config, value: int) -> None:
    cfg.model.backbone.frozen_stages = value


def _set_seed(cfg: Config, value: int) -> None:
    cfg.randomness.seed = value


def _set_vis_backends(cfg: Config, value: list) -> None:
    cfg.visualizer.vis_backends = value


#: Top-level names that reach every place they govern.
KNOBS: dict[str, Callable[[Config, Any], None]] = {
    "data_root": _set_data_root,
    "input_size": _set_input_size,
    "windows": _set_windows,
    "neighbours": _set_neighbours,
    "batch_size": _set_batch_size,
    "num_workers": _set_num_workers,
    "max_iters": _set_max_iters,
    "lr": _set_lr,
    "accumulate": _set_accumulate,
    "precision": _set_precision,
    "pretrained": _set_pretrained,
    "frozen_stages": _set_frozen_stages,
    "seed": _set_seed,
    "vis_backends": _set_vis_backends,
}
