"""Reading configs: inheritance from mmengine, strict overrides, knobs that reach everywhere.

mmengine copies a value into every place that mentions it while a file is parsed, so a
later override of the top-level name no longer reaches those places. The names in
:data:`~pe_unified.engine.knobs.KNOBS` do: after files and overrides are merged, the value at
the top level is copied to all its places, and no other value is allowed there.
"""

import ast
import copy
import difflib
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_unified.config_files import SCOPE, find_config
from pe_unified.datasets.slice_dataset import FINDINGS, annotations_at
from pe_unified.engine.knobs import KNOBS, apply_knobs, governed, is_idle, kind_of
from pe_unified.engine.parameters import parameters_of
from pe_unified.errors import UserError, one_line
from pe_unified.tasks import TASKS

#: The head whose answers a metric measures.
HEAD_OF_METRIC = {task.metric: task.head for task in TASKS.values()}
HEAD_OF_METRIC["LungMetric"] = TASKS["cls"].head
HEAD_OF_METRIC["LungBoxMetric"] = "bbox_head"
#: Knobs of the network's initial state, taken over with a checkpoint's network.
OF_THE_NETWORK = ("pretrained", "frozen_stages")
#: Knobs of the input, taken over with a checkpoint's network, too.
OF_THE_INPUT = ("input_size", "lung_crop", "windows", "neighbours", "lung_scores", "step_mm")
#: Keys that mmengine's builders remove from a part's dictionary before they build it.
_OF_THE_BUILDER = {
    "optim_wrapper": ("constructor", "paramwise_cfg"),
    "losses": ("loss_weight", "loss_name"),
}


class ConfigError(UserError, ValueError):
    """A config or an override of it cannot be used; the message says what to change."""


_path_of_mmengine = Config._get_cfg_path


def _path_of_base(name: str, child: str) -> tuple[str, str | None]:
    """Find the base of a config as mmengine does, or ``pe_unified::NAME`` by its name."""
    if name.startswith(SCOPE):
        return str(find_config(name)), None
    return _path_of_mmengine(name, child)


Config._get_cfg_path = staticmethod(_path_of_base)


def read_python_config(path: str | Path) -> Config:
    """A config or a recipe as mmengine reads it; parsed again only if a file has changed.

    Raises:
        ConfigError: the file is not valid Python, or fails when run; the message says why.
    """
    try:
        return copy.deepcopy(_parsed(str(path), _versions(Path(path))))
    except (OSError, UserError):
        raise
    except Exception as error:  # a config is code, which may raise anything
        said = one_line(f"{type(error).__name__}: {error}")
        raise ConfigError(f"{path} cannot be read as a config: {said}") from error


@lru_cache(maxsize=256)
def _parsed(path: str, versions: tuple[tuple[str, int], ...]) -> Config:
    cfg = Config.fromfile(path)
    # No formatting by yapf, which would take a quarter of the time of a short run.
    object.__setattr__(cfg, "_format_python_code", False)
    return cfg


def _versions(path: Path) -> tuple[tuple[str, int], ...]:
    """A config and all that it inherits from, each with its time of modification, ns."""
    if not path.exists():
        return ()
    modified = path.stat().st_mtime_ns
    inherited = (_versions(parent) for parent in _parents(path))
    return (str(path.resolve()), modified), *itertools.chain(*inherited)


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
        overrides: values by dotted key, as ``--cfg-options`` gives them.
        data_root: the data set's folder; the same as overriding the knob ``data_root``.
        settings: merged over the file in turn, before the overrides, as inheriting configs
            would be; may add new keys. Settings of a head that the config leaves out are
            ignored, so that one set of settings fits configs of several tasks.
        of_recipe: ignore such overrides, too, since they are the same for all steps of a recipe.
        trained_with: the config of a checkpoint. Its network and its input replace those of this
            config; overrides take precedence.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: the file is a recipe, counts epochs, or wraps its data set in another; a
            top-level name looks like a misspelt inherited one; an override names a key that
            neither the config has nor the part there accepts, or a knob that no part of it has; a
            knob would overwrite a value set elsewhere; a knob has an invalid value; or a metric
            needs a head that the model lacks.
    """
    path = find_config(path)
    cfg = read_python_config(path)
    for each in settings:
        cfg.merge_from_dict(copy.deepcopy(_for_its_heads(cfg, each)))  # knobs change it
    if trained_with:
        _take_network_and_input(cfg, Config(copy.deepcopy(dict(trained_with))))
    _refuse_other_kinds(cfg)
    own, *bases = _family(str(path))
    refuse_near(path, own, {name for each in bases for name in each})
    overrides = dict(overrides or {})
    if data_root is not None:
        overrides["data_root"] = os.path.normpath(data_root)
    if of_recipe:
        overrides = {key: value for key, value in overrides.items() if not absent_head(cfg, key)}
    for key in overrides:
        _require_key(cfg, key, overrides)
    earlier = [dict(cfg.items()), own, *bases]
    cfg.merge_from_dict(overrides)
    _refuse_overwritten(cfg, overrides, earlier)
    if not of_recipe:  # whose settings are for configs of several kinds
        _refuse_idle(cfg, overrides, earlier[0])
    try:
        apply_knobs(cfg)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    except TypeError as error:
        told = f"{path}: a setting is of the wrong kind ({error}); compare it with the config"
        raise ConfigError(told) from error
    _require_heads(cfg)
    return cfg


def _take_network_and_input(cfg: Config, other: Config) -> None:
    """Take over what a checkpoint's weights depend on: its network and its input."""
    cfg.model = other.model
    theirs = other.get("test_dataloader") or other.get("val_dataloader")
    for split in ("val", "test"):
        ours = cfg.get(f"{split}_dataloader")
        if ours and theirs:
            _require_same_label(cfg, ours.dataset, theirs.dataset)
            for part in ("pipeline", "neighbours", "steps", "step_mm"):
                if part in theirs.dataset:
                    ours.dataset[part] = theirs.dataset[part]
    for knob in (*OF_THE_INPUT, *OF_THE_NETWORK):
        if knob in other:
            cfg[knob] = other[knob]
        else:
            cfg.pop(knob, None)


def _require_same_label(cfg: Config, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """A lung classifier is not an embolism classifier, although their networks are the same."""
    own, learned = (FINDINGS[each.get("label", "pe")] for each in (ours, theirs))
    if own != learned:
        raise ConfigError(
            f"{cfg.filename}: asks whether a slice shows {own}, but the checkpoint learned whether "
            f"it shows {learned}"
        )


def _refuse_other_kinds(cfg: Config) -> None:
    """Refuse what is not a config of one network on one converted set."""
    if cfg.get("steps") and not cfg.get("model"):
        raise ConfigError(f"{cfg.filename} is a recipe; pe-unified steps trains its steps")
    if "max_epochs" in (cfg.get("train_cfg") or {}):
        raise ConfigError(f"{cfg.filename}: training is counted in iterations; set max_iters")
    for split in ("train", "val", "test"):
        dataset = (cfg.get(f"{split}_dataloader") or {}).get("dataset")
        if dataset is not None and "pipeline" not in dataset:
            raise ConfigError(
                f"{cfg.filename}: {split}_dataloader.dataset is a {kind_of(dataset)}, which has no "
                "pipeline of its own; pe-unified merge makes one set of several"
            )


def absent_head(cfg: Config, dotted: str) -> bool:
    """Whether an override concerns a head that the config leaves out."""
    first, head, *rest = [*dotted.split("."), ""][:3]
    model = cfg.get("model") or {}
    return first == "model" and any(rest) and head in model and model[head] is None


def _for_its_heads(cfg: Config, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those of heads that the config leaves out."""
    parts = settings.get("model") or {}
    kept = {name: value for name, value in parts.items() if not absent_head(cfg, f"model.{name}.*")}
    return {**settings, "model": kept} if parts else dict(settings)


def _require_key(cfg: Config, dotted: str, overrides: Mapping[str, Any]) -> None:
    """Require that the config has an override's key, or that the part there accepts it.

    What is below a key that is new to the config is checked by the part only.
    """
    place = re.sub(r"^(train|val|test)_pipeline\b", r"\1_dataloader.dataset.pipeline", dotted)
    if place != dotted:  # the loaders hold copies of this variable
        raise ConfigError(f"override '{dotted}' would not change any data loader; use '{place}'")
    node: Any = cfg._cfg_dict
    walked: list[str] = []
    for part in dotted.split("."):
        inner = _inner(node)
        if part not in inner:
            known = [*inner, *sorted(_taken_by(node, walked, overrides))]
            if part in known:
                return
            near = difflib.get_close_matches(part, known, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ";"
            raise ConfigError(
                f"override '{dotted}': {'.'.join(walked) or 'the config'} has no '{part}'{hint} "
                f"known there: {', '.join(known) or f'nothing, it is {node}'}"
            )
        node = inner[part]
        walked.append(part)


def _inner(node: Any) -> dict[str, Any]:
    """The items of a dictionary or a list of a config, by their names in dotted keys."""
    if isinstance(node, list | tuple):
        return {str(number): each for number, each in enumerate(node)}
    return {str(key): each for key, each in node.items()} if isinstance(node, dict) else {}


def _taken_by(node: Any, walked: Sequence[str], overrides: Mapping[str, Any]) -> set[str]:
    """Settings that the part described by a node of a config accepts, or its builder."""
    if not isinstance(node, dict):
        return set()
    name = next((part for part in reversed(walked) if not part.isdigit()), "")
    kind = overrides.get(".".join([*walked, "type"]), node.get("type"))
    return {*parameters_of(kind), *_OF_THE_BUILDER.get(name, ())}


def _refuse_overwritten(
    cfg: Config, overrides: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse values in places that a knob governs: the knob would overwrite them.

    Values that a knob of ``earlier`` configs put there during parsing are accepted.
    """
    for name, place in governed(cfg):
        value = place.holder.get(place.key, cfg[name])
        harmless = [cfg[name]]
        if place.path not in overrides:
            harmless += [each[name] for each in earlier if name in each]
            harmless += [] if KNOBS[name].none_counts else [None]
        if value not in harmless:
            raise ConfigError(
                f"{cfg.filename}: {place.path} = {value!r} would be overwritten by the top-level "
                f"'{name}' = {cfg[name]!r}; set '{name}' instead"
            )


def _refuse_idle(cfg: Config, overrides: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Refuse to change a knob that governs nothing in this config."""
    for name in KNOBS.keys() & overrides.keys():
        if overrides[name] != before[name] and is_idle(cfg, name):
            raise ConfigError(
                f"{cfg.filename}: override '{name}' would have no effect, because no part of this "
                "config has that setting; leave it out"
            )


def annotation_files(cfg: Config, *splits: str) -> dict[str, Path]:
    """The files that list the slices of these splits, for those splits that the config has.

    Raises:
        FileNotFoundError: one is missing; the message names the converter command.
    """
    loaders = {split: cfg.get(f"{split}_dataloader") for split in splits}
    sets = {split: loader.dataset for split, loader in loaders.items() if loader}
    return {
        split: annotations_at(Path(dataset.data_root) / dataset.ann_file)
        for split, dataset in sets.items()
        if "ann_file" in dataset
    }


def listed_metrics(cfg: Config, split: str) -> list[Mapping[str, Any]]:
    """The metrics of a split as a list; mmengine also allows a single one."""
    evaluator = cfg.get(f"{split}_evaluator") or []
    return [evaluator] if isinstance(evaluator, Mapping) else list(evaluator)


def _require_heads(cfg: Config) -> None:
    """Refuse metrics of heads that the model lacks: the first validation would fail."""
    if kind_of(cfg.get("model") or {}) not in ("PEUnified", "PEExam", "PEVolume"):
        return
    for split in ("val", "test"):
        for metric in listed_metrics(cfg, split):
            kind = kind_of(metric)
            if kind in HEAD_OF_METRIC:
                require_part(cfg, HEAD_OF_METRIC[kind], f"{split}_evaluator has a {kind}")


def require_part(cfg: Config, part: str, why: str) -> None:
    """Refuse a config whose model lacks a part; ``why`` says what needs it."""
    if not cfg.model.get(part):
        raise ConfigError(f"{cfg.filename}: {why}, but the model has no {part}")


def refuse_near(path: Path, names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a top-level name that looks like a misspelt known one; other new names are fine."""
    known = list(known)
    for name in names:
        near = [] if name in known else difflib.get_close_matches(name, known, n=1, cutoff=0.9)
        if near:
            raise ConfigError(f"{path}: '{name}' is not a known name; did you mean '{near[0]}'?")


def _family(path: str) -> list[Config]:
    """The config and all that it inherits from, each parsed separately."""
    return [_parsed(each, _versions(Path(each))) for each, _ in _versions(Path(path))]


def stated_in(path: Path, name: str) -> Path:
    """The nearest of a config and its ancestors that assigns to a top-level name."""
    ancestors = [path]
    for each in ancestors:
        if _assigns(each, name):
            return each
        ancestors += _parents(each)
    return path


def _parents(path: Path) -> tuple[Path, ...]:
    """The files that a config inherits from."""
    return _bases_of(str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=1024)
def _bases_of(path: str, modified: int) -> tuple[Path, ...]:
    """The base configs of a file; its time of modification, ns, keeps the cache valid."""
    bases = Config._get_base_files(path)
    return tuple(Path(Config._get_cfg_path(base, path)[0]) for base in bases)


def _assigns(path: Path, name: str) -> bool:
    """Whether a Python file assigns to a top-level name."""
    return any(
        isinstance(target, ast.Name) and target.id == name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
    )
