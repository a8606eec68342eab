"""A recipe: configs trained in turn, each starting from the weights of earlier ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pe_unified.config_files import find_config
from pe_unified.engine.config import ConfigError, read_python_config, refuse_near, stated_in
from pe_unified.tasks import MODULES

#: What a recipe may say at its top level, beside names of its own.
_NAMES = ("steps", "comparisons", "settings", "step_settings", "backbone")


@dataclass(frozen=True)
class Step:
    """One step of a recipe.

    Fields:
        name: also its folder's name.
        config: path of its config.
        reuse: module to the earlier step it is taken from.
        settings: merged over the config in turn, as inheriting configs would be.
        as_long_as: an earlier step; this one trains from scratch with as many slices as that one
            and all that it started from. Empty: as long as its config says.
    """

    name: str
    config: Path
    reuse: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[Mapping[str, Any]] = ()
    as_long_as: str = ""


@dataclass(frozen=True)
class Recipe:
    """Steps in order, and the pairs of arms that answer whether reuse helps.

    Fields:
        name: of the recipe.
        steps: in the order of training.
        comparisons: ``(metric, scratch step, reused step)``.
    """

    name: str
    steps: tuple[Step, ...]
    comparisons: tuple[tuple[str, str, str], ...] = ()


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe: ``steps`` and ``comparisons``.

    A step has a ``name``, a ``config`` or an earlier step that it is ``like`` (of which it takes
    config and settings), and may have ``reuse``, ``settings`` and ``as_long_as``.

    Config paths are relative to the folder of the file that lists the steps, which a recipe may
    inherit from; ``{backbone}`` in them is the recipe's ``backbone``. ``settings`` of the recipe
    hold for every step, those of a step for it alone; ``step_settings`` ``{step: settings}``
    gives single steps more of them, for recipes that inherit their table.

    Raises:
        FileNotFoundError: no such recipe, or a config it names is not there.
        ConfigError: two steps of one name, an unknown key or module, or a step that
            takes weights, settings or length from one that does not come before it.
    """
    path = find_config(path)
    cfg = read_python_config(path)
    if not cfg.get("steps"):
        raise ConfigError(f"{path} lists no steps; is it a config rather than a recipe?")
    refuse_near(path, cfg.keys(), _NAMES)
    shared = dict(cfg.get("settings", {}))
    single = dict(cfg.get("step_settings", {}))
    if any("seed" in each for each in (shared, *single.values())):
        raise ConfigError(f"{path}: a recipe's seeds are given when it is run; use --seeds")
    backbone = cfg.get("backbone", "")
    folder = stated_in(path, "steps").parent
    steps: list[Step] = []
    for entry in cfg.steps:
        unknown = set(entry) - {"name", "config", "like", "reuse", "settings", "as_long_as"}
        if unknown:
            raise ConfigError(f"{path}: step {entry.get('name')} has unknown {sorted(unknown)}")
        if "name" not in entry or ("config" in entry) == ("like" in entry):
            raise ConfigError(
                f"{path}: a step needs a name and a config, or an earlier step that it is like; "
                f"got {dict(entry)}"
            )
        if "like" in entry:
            model = _earlier(path, entry["name"], entry["like"], steps)
            config, inherited = model.config, tuple(model.settings)
        else:
            config = (folder / entry["config"].format(backbone=backbone)).resolve()
            inherited = (shared,)
        step = Step(
            name=entry["name"],
            config=config,
            reuse=dict(entry.get("reuse", {})),
            settings=(*inherited, entry.get("settings", {}), single.get(entry["name"], {})),
            as_long_as=entry.get("as_long_as", ""),
        )
        _check_step(path, step, steps)
        steps.append(step)
    comparisons = tuple(tuple(each) for each in cfg.get("comparisons", ()))
    names = {step.name for step in steps}
    if not single.keys() <= names:
        unknown = ", ".join(sorted(single.keys() - names))
        raise ConfigError(f"{path}: step_settings of {unknown}, which the recipe does not have")
    for each in comparisons:
        if len(each) != 3:
            raise ConfigError(
                f"{path}: a comparison is (metric, scratch step, reused step), got {each}"
            )
        metric, scratch, reused = each
        if not {scratch, reused} <= names:
            raise ConfigError(f"{path}: the comparison of {metric} names an unknown step")
    return Recipe(path.stem, tuple(steps), comparisons)


def _earlier(path: Path, name: str, source: str, steps: Sequence[Step]) -> Step:
    """The step of a name, among those before the one that names it."""
    for step in steps:
        if step.name == source:
            return step
    raise ConfigError(
        f"{path}: step {name} names {source}, which does not come before it; earlier steps: "
        f"{', '.join(step.name for step in steps) or 'none'}"
    )


def _check_step(path: Path, step: Step, steps: Sequence[Step]) -> None:
    if step.name in [each.name for each in steps]:
        raise ConfigError(f"{path}: two steps are called {step.name}")
    if not step.config.is_file():
        raise FileNotFoundError(f"{path}: step {step.name} has no config at {step.config}")
    for module, source in step.reuse.items():
        if module.split(".")[0] not in MODULES:
            raise ConfigError(f"{path}: step {step.name} reuses '{module}'; modules: {MODULES}")
        _earlier(path, step.name, source, steps)
    if step.as_long_as:
        _earlier(path, step.name, step.as_long_as, steps)
        if step.reuse:
            raise ConfigError(
                f"{path}: step {step.name} has as_long_as and reuse; a control starts from scratch"
            )
