"""A recipe: configs trained in turn, each starting from the weights of earlier ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pe_unified.config_files import find_config
from pe_unified.engine.config import ConfigError, read_python_config, refuse_near, stated_in

#: The two arms of a comparison, if a recipe does not name them.
REUSE_ARMS = ("scratch", "reused")
#: Names at the top level of a recipe, which may also have its own.
_NAMES = ("steps", "comparisons", "arms", "curves", "settings", "step_settings", "backbone")


@dataclass(frozen=True)
class Step:
    """One step of a recipe.

    Fields:
        name: also its folder's name.
        config: path of its config.
        reuse: module -> the earlier step that it is taken from.
        settings: merged over the config in turn, as inheriting configs would be.
        as_long_as: an earlier step; this one, a control from scratch, trains with as many slices as
            that one and all that it started from. Empty: as long as its config says.
        extract: whether it stores features of the whole set, by an encoder that it takes from
            earlier steps, instead of training.
        features: an earlier step whose features replace the slices.
        lung_scores: an earlier step whose features, one lung score per slice, select the slices.
        ensemble: the ensemble to make instead of training; None for other steps. The config gives
            the data.
        lesions: whether lesions, as reports list them, are tested, too; for ensembles they are.
    """

    name: str
    config: Path
    reuse: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[Mapping[str, Any]] = ()
    as_long_as: str = ""
    extract: bool = False
    features: str = ""
    lung_scores: str = ""
    ensemble: "EnsembleStep | None" = None
    lesions: bool = False

    @property
    def parents(self) -> tuple[str, ...]:
        """The steps that it starts from, without repetition."""
        joined = self.ensemble.steps.values() if self.ensemble else ()
        return tuple(dict.fromkeys((*self.reuse.values(), *self.stores.values(), *joined)))

    @property
    def stores(self) -> dict[str, str]:
        """The steps whose features it reads, by the knob that names their folder."""
        given = {"features": self.features, "lung_scores": self.lung_scores}
        return {knob: source for knob, source in given.items() if source}


@dataclass(frozen=True)
class EnsembleStep:
    """An ensemble of earlier steps.

    Fields:
        members: weights of the answers by step; or only steps, with equal weights.
        rule, fuse: as in :class:`~pe_unified.engine.ensemble.EnsembleList`.
        lungs: an earlier step that trains a lung detector; empty for the usual crop.
        volumes: an earlier step that trains a volume model, whose marks are added to the lesions.
    """

    members: Mapping[str, float] | Sequence[str]
    rule: str = "mean"
    fuse: bool = False
    lungs: str = ""
    volumes: str = ""

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the members, by step."""
        if isinstance(self.members, Mapping):
            return dict(self.members)
        return dict.fromkeys(self.members, 1.0)

    @property
    def steps(self) -> dict[str, str]:
        """The steps that it is made of, by their role in it."""
        found = {f"member {name}": name for name in self.weights}
        others = {"lungs": self.lungs, "volumes": self.volumes}
        return found | {what: name for what, name in others.items() if name}


class Comparison(NamedTuple):
    """Two steps whose test results are compared."""

    metric: str
    scratch: str
    reused: str


@dataclass(frozen=True)
class Curve:
    """Metrics of steps against a setting in which they differ; drawn as ``<setting>.png``.

    Fields:
        setting: a top-level name; the steps whose settings have it are on the curve.
        metrics: full keys.
        label: label of the axis.
    """

    setting: str
    metrics: Sequence[str]
    label: str = ""

    def places(self, steps: Sequence[Step]) -> dict[str, float]:
        """The value of the setting, by step."""
        found = {}
        for step in steps:
            for settings in step.settings:
                if self.setting in settings:
                    found[step.name] = float(settings[self.setting])
        return found


@dataclass(frozen=True)
class Recipe:
    """Steps in order, and the pairs of arms that are compared.

    Fields:
        name: name of the recipe.
        steps: in the order of training.
        arms: names of the first and the second arm of each pair.
    """

    name: str
    steps: tuple[Step, ...]
    comparisons: tuple[Comparison, ...] = ()
    curves: tuple[Curve, ...] = ()
    arms: tuple[str, str] = REUSE_ARMS


@dataclass(frozen=True)
class StepEntry:
    """A step as a recipe lists it.

    Fields:
        config: relative to the folder of the file that lists the steps; ``{backbone}`` in it is the
            recipe's ``backbone``.
        like: instead of ``config``, an earlier step whose config and settings this one uses.
        name, reuse, settings, as_long_as, extract, features, lung_scores, lesions: as in
            :class:`Step`.
        ensemble: fields of an :class:`EnsembleStep`.
    """

    name: str
    config: str = ""
    like: str = ""
    reuse: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    as_long_as: str = ""
    extract: bool = False
    features: str = ""
    lung_scores: str = ""
    ensemble: Mapping[str, Any] | None = None
    lesions: bool = False


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe: ``steps`` (:class:`StepEntry`), ``comparisons``, ``arms``, ``curves``.

    ``settings`` of the recipe apply to every step, those of a step only to it; ``step_settings``
    ``{step: settings}`` adds settings to single steps, for recipes that inherit their steps.

    Raises:
        FileNotFoundError: the recipe, or a config it names, is missing.
        ConfigError: a misspelt or missing key, two steps with one name, or a reference to a step
            that does not exist or does not come before.
    """
    path = find_config(path)
    cfg = read_python_config(path)
    if not cfg.get("steps"):
        raise ConfigError(f"{path} lists no steps; is it a config rather than a recipe?")
    refuse_near(path, cfg.keys(), _NAMES)
    for entry in cfg.steps:
        if not isinstance(entry, Mapping):
            raise ConfigError(f"{path}: step {entry!r}: write it as dict(name=..., config=...)")
    try:
        entries = [StepEntry(**entry) for entry in cfg.steps]
        ensembles = {
            entry.name: EnsembleStep(**entry.ensemble)
            for entry in entries
            if entry.ensemble is not None
        }
        comparisons = tuple(Comparison(*each) for each in cfg.get("comparisons", ()))
        curves = tuple(Curve(**each) for each in cfg.get("curves", ()))
    except TypeError as error:
        raise ConfigError(f"{path}: {error}") from error
    shared, single = cfg.get("settings", {}), cfg.get("step_settings", {})
    folder = stated_in(path, "steps").parent
    steps: dict[str, Step] = {}
    for entry in entries:
        stores = tuple(filter(None, (entry.features, entry.lung_scores)))
        own = ensembles.get(entry.name)
        joined = own.steps.values() if own else ()
        named = (entry.like, entry.as_long_as, *stores, *entry.reuse.values(), *joined)
        for name in filter(None, named):
            _require_step(path, f"step {entry.name}", name, steps)
        for store in stores:
            if not steps[store].extract:
                raise ConfigError(
                    f"{path}: step {entry.name} takes features of {store}, which extracts none"
                )
        if entry.name in steps:
            raise ConfigError(f"{path}: two steps are called {entry.name}")
        if bool(entry.config) == bool(entry.like):
            raise ConfigError(f"{path}: step {entry.name}: give it either config or like")
        if entry.like:
            config, inherited = steps[entry.like].config, steps[entry.like].settings
        else:
            file = folder / entry.config.format(backbone=cfg.get("backbone", ""))
            config, inherited = find_config(file.resolve()), (dict(shared),)
        steps[entry.name] = Step(
            name=entry.name,
            config=config,
            reuse=dict(entry.reuse),
            settings=(*inherited, entry.settings, single.get(entry.name, {})),
            as_long_as=entry.as_long_as,
            extract=entry.extract,
            features=entry.features,
            lung_scores=entry.lung_scores,
            ensemble=own,
            lesions=entry.lesions,
        )
    for name in single:
        _require_step(path, "step_settings", name, steps)
    for metric, *arms in comparisons:
        for arm in arms:
            _require_step(path, f"the comparison of {metric}", arm, steps)
    first, second = cfg.get("arms", REUSE_ARMS)
    return Recipe(path.stem, tuple(steps.values()), comparisons, curves, (first, second))


def _require_step(path: Path, who: str, name: str, steps: Mapping[str, Step]) -> None:
    if name not in steps:
        known = ", ".join(steps) or "none"
        raise ConfigError(f"{path}: {who} names {name}; the steps before are: {known}")
