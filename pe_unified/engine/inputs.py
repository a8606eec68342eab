"""Whether a config prepares slices, and computes, as a checkpoint was trained to."""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_unified.engine.config import ConfigError
from pe_unified.engine.knobs import governed
from pe_unified.models.data_preprocessor import IMAGENET_MEAN, IMAGENET_STD

#: Settings of a network that its answers do not depend on, or that follow from its input.
_OF_TRAINING = re.compile(
    "pretrained|frozen|norm_eval|with_cp|drop|loss|weight|init_cfg|train|in_channels|image_channels"
)


def require_same_input(
    cfg: Config, checkpoint: str | Path, stored: Mapping[str, Any], named: Collection[str] = ()
) -> None:
    """Refuse a config that gives a checkpoint another input or network than it was trained with.

    Compared are the pipelines of validation and test and their neighbours, as far as both have
    them, not where data lie; and what the network computes with, where weights of the same shape
    would fit either (normalisation, anchors), not what bears on training alone. A checkpoint that
    carries no config passes.

    Args:
        cfg: what the checkpoint is to be evaluated or published with.
        checkpoint: its file, for the message.
        stored: its content.
        named: dotted keys of ``cfg`` that the user set; these may differ.

    Raises:
        ConfigError: names every difference, and the options that repeat the checkpoint's values.
    """
    trained_with = (stored.get("meta") or {}).get("cfg")
    if not trained_with:
        return
    other = Config(dict(trained_with))
    loaders = [f"{split}_dataloader" for split in ("val", "test")]
    shared = [name for name in loaders if cfg.get(name) and other.get(name)]
    before = {**_input_settings(other, shared), **_model_settings(other)}
    now = {**_input_settings(cfg, shared), **_model_settings(cfg)}
    changed = [
        key
        for key in dict.fromkeys([*before, *now])
        if _plain(before.get(key)) != _plain(now.get(key)) and not _is_named(key, named)
    ]
    if not changed:
        return
    differences = (f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in changed)
    options = [f"{key}={_as_option(before[key])}" for key in changed if key in before]
    repeat = f"repeat --cfg-options {shlex.join(options)}, or " if options else ""
    raise ConfigError(
        f"{checkpoint} was trained with another input or network than this config gives: "
        f"{'; '.join(differences)}. Take the config in its work dir, {repeat}"
        "name there what is meant to differ"
    )


def _input_settings(cfg: Config, loaders: Sequence[str]) -> dict[str, Any]:
    """By dotted key, what decides how a slice becomes an input; a knob stands for its places."""
    settings: dict[str, Any] = {}
    for name in loaders:
        dataset, path = cfg[name].dataset, f"{name}.dataset"
        settings[f"{path}.neighbours"] = dataset.get("neighbours", 0)
        for number, transform in enumerate(dataset.pipeline):
            for key, value in transform.items():
                settings[f"{path}.pipeline.{number}.{key}"] = value
    knobs = {place.path: name for name, place in governed(cfg)}
    return {knobs.get(key, key): value for key, value in settings.items()}


def _model_settings(cfg: Config) -> dict[str, Any]:
    """By dotted key, what the network computes with outside training.

    The statistics stand for one slice and window: the others repeat them.
    """
    settings = dict(_leaves("model", cfg.get("model") or {}))
    for name, usual in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
        given = settings.pop(f"model.data_preprocessor.{name}", usual)
        if any(value != usual[k % len(usual)] for k, value in enumerate(given)):
            settings[f"model.data_preprocessor.{name}"] = given
    return {key: value for key, value in settings.items() if not _OF_TRAINING.search(key)}


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}", inner)
    elif value is not None:
        yield path, value


def _is_named(key: str, named: Collection[str]) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in named)


def _plain(value: Any) -> Any:
    """A command line and a file may give a list and a tuple of the same values."""
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _as_option(value: Any) -> str:
    """As ``--cfg-options`` reads it back."""
    if isinstance(value, list | tuple):
        inside = ",".join(_as_option(each) for each in value)
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    return str(value)
