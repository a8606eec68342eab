"""Whether a config prepares slices as they were prepared for a checkpoint."""

import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_unified.engine.config import ConfigError
from pe_unified.engine.knobs import governed


def require_same_input(
    cfg: Config, checkpoint: str | Path, stored: Mapping[str, Any], named: Collection[str] = ()
) -> None:
    """Refuse a config that gives a checkpoint another input than the one it was trained for.

    Compared are the pipelines of validation and test and their neighbours, as far as both have
    them, not where data lie. A checkpoint that carries no config passes.

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
    before, now = _input_settings(other, shared), _input_settings(cfg, shared)
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
        f"{checkpoint} was trained with another input than this config gives: "
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
