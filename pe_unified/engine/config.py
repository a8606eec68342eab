"""Reading configs: inheritance from mmengine, strict overrides, knobs that reach everywhere.

mmengine copies a value into every place that mentions it while a file is parsed, so a
later override of the top-level name no longer reaches those places. The names in
:data:`~pe_unified.engine.knobs.KNOBS` do: whatever value stands at the top level once files
and overrides are merged is carried to all its places, and no other value may stand there.
"""

import ast
import copy
import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_unified.config_files import SCOPE, find_config
from pe_unified.engine.knobs import KNOBS, apply_knobs, governed, kind_of
from pe_unified.engine.parameters import parameters_of
from pe_unified.errors import UserError, one_line
from pe_unified.tasks import TASKS

#: The head that gives what a metric measures.
_MEASURED = {task.metric: task.head for task in TASKS.values()}
#: What mmengine's builders take out of a part's dictionary before they build it.
_OF_THE_BUILDER = {
    "optim_wrapper": ("constructor", "paramwise_cfg"),
    "losses": ("loss_weight", "loss_name"),
}


class ConfigError(UserError, ValueError):
    """A config or an override of it cannot be used; the message says what to change."""


_path_of_mmengine = Config._get_cfg_path


def _path_of_base(name: str, child: str) -> tuple[str, str | None]:
    """As mmengine finds the base of a config, and ``pe_unified::NAME`` by its name."""
    if name.startswith(SCOPE):
        return str(find_config(name)), None
    return _path_of_mmengine(name, child)


Config._get_cfg_path = staticmethod(_path_of_base)


def read_python_config(path: str | Path) -> Config:
    """A config or a recipe as mmengine reads it.

    Raises:
        ConfigError: the file is no valid Python, or fails when it is run; says why.
    """
    try:
        cfg = Config.fromfile(path)
    except (OSError, UserError):
        raise
    except Exception as error:  # a config is code, which may raise anything
        said = one_line(f"{type(error).__name__}: {error}")
        raise ConfigError(f"{path} cannot be read as a config: {said}") from error
    # Written as mmengine indents it: yapf would take a quarter of the time of a short run.
    object.__setattr__(cfg, "_format_python_code", False)
    return cfg


def load_config(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    data_root: str | None = None,
    settings: Sequence[Mapping[str, Any]] = (),
    of_recipe: bool = False,
    trained_with: Mapping[str, Any] | None = None,
) -> Config:
    """Read a config, apply overrides, set the knobs.

    Args:
        path: a Python config, or the name of one that comes with the package.
        overrides: dotted keys to values, as ``--cfg-options`` gives them.
        data_root: the data set's folder; the same as overriding the knob ``data_root``.
        settings: merged over the file in turn before the overrides, as inheriting configs
            would be; may bring new keys. What they say of a head that the config leaves out
            is passed over, so that one set of settings serves configs of several tasks.
        of_recipe: do so with overrides, too, which are the same for all steps of a recipe.
        trained_with: the config of a checkpoint. Its network, and what its slices go through, hold
            in place of this config's; overrides are stronger.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: the file is a recipe, or wraps its data set in another; a top-level name is
            nearly one of those inherited; an override names a key
            that neither the config has nor the part there takes (the message offers the nearest
            ones); a value stands where a knob would overwrite it; a knob has a value that
            there is not; or a metric needs a head that the model has not.
    """
    path = find_config(path)
    cfg = read_python_config(path)
    for each in settings:
        cfg.merge_from_dict(copy.deepcopy(_for_its_heads(cfg, each)))  # knobs write into it
    if trained_with:
        _take_network_and_input(cfg, Config(copy.deepcopy(dict(trained_with))))
    _refuse_other_kinds(cfg, path)
    _refuse_epochs(cfg, path)
    overrides = dict(overrides or {})
    if data_root is not None:
        overrides["data_root"] = os.path.normpath(data_root)
    if of_recipe:
        overrides = {key: value for key, value in overrides.items() if not absent_head(cfg, key)}
    _refuse_misspelt(path)
    if not trained_with:
        _refuse_lost(cfg, path)
    for key in overrides:
        _require_key(cfg, key, overrides)
        _refuse_copied(cfg, key)
    _refuse_governed(cfg, overrides)
    cfg.merge_from_dict(overrides)
    try:
        apply_knobs(cfg)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    _refuse_headless(cfg, path)
    return cfg


def _take_network_and_input(cfg: Config, other: Config) -> None:
    """What a checkpoint's weights mean nothing without."""
    cfg.model = other.model
    theirs = other.get("test_dataloader") or other.get("val_dataloader")
    for split in ("val", "test"):
        ours = cfg.get(f"{split}_dataloader")
        if ours and theirs:
            ours.dataset.pipeline = theirs.dataset.pipeline
            ours.dataset.neighbours = theirs.dataset.get("neighbours", 0)
    for knob in ("input_size", "windows", "neighbours", "pretrained", "frozen_stages"):
        if knob in other:
            cfg[knob] = other[knob]
        else:
            cfg.pop(knob, None)


def _refuse_other_kinds(cfg: Config, path: Path) -> None:
    """What is no config of one network on one converted set, before its parts are looked for."""
    if cfg.get("steps") and not cfg.get("model"):
        raise ConfigError(f"{path} is a recipe; pe-unified steps trains and tests its steps")
    for split in ("train", "val", "test"):
        dataset = (cfg.get(f"{split}_dataloader") or {}).get("dataset")
        if dataset is not None and "pipeline" not in dataset:
            raise ConfigError(
                f"{path}: {split}_dataloader.dataset is a {dataset.get('type')}, which has no "
                "pipeline of its own; pe-unified merge makes one set of several"
            )


def _refuse_epochs(cfg: Config, path: Path) -> None:
    """Knobs, schedules and checkpoints count iterations."""
    loop = cfg.get("train_cfg") or {}
    if kind_of(loop) == "EpochBasedTrainLoop" or loop.get("by_epoch"):
        raise ConfigError(
            f"{path}: train_cfg counts epochs, and training here iterations: leave train_cfg out "
            "and set max_iters; slices / batch_size of them are an epoch"
        )


def absent_head(cfg: Config, dotted: str) -> bool:
    """Whether an override is of a head that the config leaves out."""
    first, head, *rest = [*dotted.split("."), ""][:3]
    model = cfg.get("model") or {}
    return first == "model" and any(rest) and head in model and model[head] is None


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


def _require_key(cfg: Config, dotted: str, overrides: Mapping[str, Any]) -> None:
    """The config has the key, or the part that it belongs to takes it.

    What stands below a key that is new to the config is left for the part to judge.
    """
    nodes: list[Any] = [cfg._cfg_dict]
    walked: list[str] = []
    for part in dotted.split("."):
        node = nodes[-1]
        if isinstance(node, list | tuple) and part.isdigit() and int(part) < len(node):
            nodes.append(node[int(part)])
        elif isinstance(node, dict) and part in node:
            nodes.append(node[part])
        else:
            if node is None:
                raise ConfigError(
                    f"override '{dotted}': {'.'.join(walked)} is left out by this config"
                )
            known = _known(nodes, walked, overrides)
            if part in known:
                return
            here = ".".join(walked) or "the config"
            near = difflib.get_close_matches(part, known, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ConfigError(
                f"override '{dotted}': {here} has no '{part}'{hint or ';'} known there: "
                f"{', '.join(known) or 'nothing'}"
            )
        walked.append(part)


def _known(nodes: Sequence[Any], walked: Sequence[str], overrides: Mapping[str, Any]) -> list[str]:
    """Keys that may stand in the last of nested ``nodes``: its own, and what its part takes."""
    node = nodes[-1]
    if not isinstance(node, dict):
        return []
    place = ".".join(walked)
    name = next((part for part in reversed(walked) if not part.isdigit()), "")
    taken: set[str] = set()
    if "type" in node:
        taken = parameters_of(overrides.get(f"{place}.type", node["type"]))
    return list(dict.fromkeys([*map(str, node), *_OF_THE_BUILDER.get(name, ()), *sorted(taken)]))


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


def _refuse_governed(cfg: Config, overrides: Mapping[str, Any]) -> None:
    """An override of a place that a knob governs would be overwritten."""
    for name, place in governed(cfg):
        for key in overrides:
            if key == place.path:
                raise ConfigError(
                    f"override '{key}' would be overwritten by the top-level '{name}'; use "
                    f"'{name}={overrides[key]}'"
                )


def _refuse_lost(cfg: Config, path: Path) -> None:
    """A value that a config or its settings give to a governed place would be overwritten.

    What an ancestor's knob left there while it was parsed is nobody's wish.
    """
    inherited = _family(str(path))
    for name, place in governed(cfg):
        value = place.holder.get(place.key)
        is_gap = value is None and not KNOBS[name].none_counts
        if is_gap or place.key not in place.holder or value == cfg[name]:
            continue
        if not any(name in each and each[name] == value for each in inherited):
            raise ConfigError(
                f"{path}: {place.path} = {value!r} would be overwritten by the top-level "
                f"'{name}' = {cfg[name]!r}; set '{name}' instead"
            )


def listed_metrics(cfg: Config, split: str) -> list[Mapping[str, Any]]:
    """The metrics of a split, of which mmengine takes a single one or a list."""
    evaluator = cfg.get(f"{split}_evaluator") or []
    return [evaluator] if isinstance(evaluator, Mapping) else list(evaluator)


def _refuse_headless(cfg: Config, path: Path) -> None:
    """A metric of what the model does not answer would end the first validation."""
    model = cfg.get("model") or {}
    if kind_of(model) != "PEUnified":
        return
    for split in ("val", "test"):
        for metric in listed_metrics(cfg, split):
            head = _MEASURED.get(kind_of(metric))
            if head is not None and not model.get(head):
                raise ConfigError(
                    f"{path}: {split}_evaluator has a {kind_of(metric)}, and the model no {head}; "
                    f"list {split}_evaluator without it"
                )


def refuse_near(path: Path, names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a name that is nearly a known one: it would have no effect.

    Raises:
        ConfigError: names both.
    """
    known = list(known)
    for name in names:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
        if near and name not in known:
            raise ConfigError(f"{path}: '{name}' means nothing; did you mean '{near[0]}'?")


def _refuse_misspelt(path: Path) -> None:
    """Any name may be introduced at the top level, to be used further down."""
    own, *ancestors = _family(str(path))
    known = {name for each in ancestors for name in each}
    refuse_near(path, own.keys() - known, known)


def _family(path: str) -> tuple[Config, ...]:
    """The config and all that it inherits from, each by itself."""
    return _read_family(path, Path(path).stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _read_family(path: str, modified: int) -> tuple[Config, ...]:
    """The family of a file as it was ``modified``, ns; read once."""
    found = [read_python_config(path)]
    for parent in _parents(Path(path)):
        found += _family(str(parent))
    return tuple(found)


def stated_in(path: Path, name: str) -> Path:
    """The nearest of a config and its ancestors that gives a top-level name its value."""
    ancestors = [path]
    for each in ancestors:
        if name in _assignments(each):
            return each
        ancestors += _parents(each)
    return path


def _parents(path: Path) -> list[Path]:
    """The files that a config inherits from; those of mmengine's packages (``mmdet::``) aside."""
    assigned = _assignments(path).get("_base_")
    try:
        base = [] if assigned is None else ast.literal_eval(assigned)
    except ValueError as error:
        raise ConfigError(f"{path}: _base_ is a plain string, or a list of them") from error
    parents = [base] if isinstance(base, str) else list(base)
    return [
        find_config(parent) if parent.startswith(SCOPE) else (path.parent / parent).resolve()
        for parent in parents
        if "::" not in parent or parent.startswith(SCOPE)
    ]


def _assignments(path: Path) -> dict[str, ast.expr]:
    """Top-level names of a Python file to what is assigned to them."""
    return {
        target.id: node.value
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
