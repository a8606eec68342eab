"""Training in steps: a recipe of configs, each starting from the weights of earlier ones."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_unified.engine.comparison import Run
from pe_unified.engine.config import ConfigError, load_config
from pe_unified.engine.evaluate import evaluate_checkpoint, write_metrics
from pe_unified.engine.runner import PERunner, newest_checkpoint
from pe_unified.engine.summary import write_summary
from pe_unified.engine.views import KeepViewsHook

#: Modules of PEUnified that a step may take from an earlier one.
MODULES = ("backbone", "cls_head", "seg_head", "det_head")


@dataclass(frozen=True)
class Step:
    """One step of a recipe.

    Fields:
        name: also its folder's name.
        config: path of its config.
        reuse: module to the earlier step it is taken from.
        settings: merged over the config in turn, as inheriting configs would be.
    """

    name: str
    config: Path
    reuse: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[Mapping[str, Any]] = ()


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
    """Read a recipe: ``steps`` with ``name, config, reuse, settings``, and ``comparisons``.

    Config paths are relative to the recipe's folder. ``settings`` of the recipe hold for
    every step, those of a step for it alone.

    Raises:
        FileNotFoundError: no such recipe, or a config it names is not there.
        ConfigError: two steps of one name, an unknown key or module, or a step that
            takes weights from one that does not come before it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no recipe at {path}; the ready ones are in configs/steps/")
    cfg = Config.fromfile(path)
    if "steps" not in cfg:
        raise ConfigError(f"{path} lists no steps; is it a config rather than a recipe?")
    shared = dict(cfg.get("settings", {}))
    steps: list[Step] = []
    for entry in cfg.steps:
        unknown = set(entry) - {"name", "config", "reuse", "settings"}
        if unknown:
            raise ConfigError(f"{path}: step {entry.get('name')} has unknown {sorted(unknown)}")
        step = Step(
            name=entry["name"],
            config=(path.parent / entry["config"]).resolve(),
            reuse=dict(entry.get("reuse", {})),
            settings=(shared, dict(entry.get("settings", {}))),
        )
        _check_step(path, step, [earlier.name for earlier in steps])
        steps.append(step)
    comparisons = tuple(tuple(each) for each in cfg.get("comparisons", ()))
    names = {step.name for step in steps}
    for metric, scratch, reused in comparisons:
        if not {scratch, reused} <= names:
            raise ConfigError(f"{path}: the comparison of {metric} names an unknown step")
    return Recipe(path.stem, tuple(steps), comparisons)


def _check_step(path: Path, step: Step, earlier: Sequence[str]) -> None:
    if step.name in earlier:
        raise ConfigError(f"{path}: two steps are called {step.name}")
    if not step.config.is_file():
        raise FileNotFoundError(f"{path}: step {step.name} has no config at {step.config}")
    for module, source in step.reuse.items():
        if module.split(".")[0] not in MODULES:
            raise ConfigError(f"{path}: step {step.name} reuses '{module}'; modules: {MODULES}")
        if source not in earlier:
            raise ConfigError(
                f"{path}: step {step.name} takes {module} from {source}, which does not come "
                f"before it; earlier steps: {', '.join(earlier) or 'none'}"
            )


def run_recipe(
    path: str | Path,
    work_dir: Path,
    data_root: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0,),
    note: str = "",
    trust_checkpoint: bool = False,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train and test every step, then write the summary.

    With several seeds, each gets a folder ``seed<k>`` with a summary of its own, and the
    work dir one that compares the arms over all of them.

    Args:
        path: the recipe.
        work_dir: every step gets a folder in it.
        data_root: the converted data set.
        overrides: for every step, stronger than the recipe's settings; dotted keys.
        seeds: of weights, order and augmentation.
        note: stands under every figure, for instance that data are synthetic.
        trust_checkpoint: allow checkpoints that contain pickled code.
        report: called with one line of text at a time.

    Returns:
        What ``summary.json`` holds.
    """
    recipe = load_recipe(path)
    runs = []
    for seed in seeds:
        folder = work_dir / f"seed{seed}" if len(seeds) > 1 else work_dir
        if len(seeds) > 1:
            report(f"seed {seed}")
        settings = {**dict(overrides or {}), "seed": seed}
        runner = StepRunner(recipe, folder, data_root, settings, report, trust_checkpoint, note)
        runs.append(Run(seed, folder, runner.run()))
    return write_summary(recipe, work_dir, runs, note)


class StepRunner:
    """Runs the steps of a recipe into one folder; finished ones are kept, a broken one resumed.

    Arguments as for :func:`run_recipe`.
    """

    def __init__(
        self,
        recipe: Recipe,
        work_dir: Path,
        data_root: str | None,
        overrides: Mapping[str, Any],
        report: Callable[[str], None],
        trust_checkpoint: bool = False,
        note: str = "",
    ) -> None:
        self.recipe = recipe
        self.work_dir = work_dir
        self.data_root = data_root
        self.overrides = overrides
        self.report = report
        self.trust_checkpoint = trust_checkpoint
        self.note = note
        self.fingerprints: dict[str, str] = {}

    def run(self) -> list[dict[str, Any]]:
        """The records of ``summary.json``, one per step, in order."""
        count = len(self.recipe.steps)
        return [
            self._run_step(step, f"[{number}/{count}] {step.name}")
            for number, step in enumerate(self.recipe.steps, start=1)
        ]

    def _run_step(self, step: Step, title: str) -> dict[str, Any]:
        cfg = self._config(step)
        folder = Path(cfg.work_dir)
        fingerprint = self.fingerprints[step.name] = self._fingerprint(step, cfg)
        result = folder / "metrics.json"
        if result.is_file():
            kept = json.loads(result.read_text())
            if kept["fingerprint"] == fingerprint:
                self.report(f"{title}: finished before")
                return kept["record"]
        _claim(folder, fingerprint)
        self.report(f"{title}: {cfg.max_iters} iterations of {step.config.name}")
        runner = PERunner.from_cfg(cfg)
        runner.train()
        for parent in runner.parents:
            self.report("    {module}: {tensors} of {total} tensors from {from}".format(**parent))
        checkpoint = self._checkpoint(step.name)
        keeper = KeepViewsHook()
        evaluation = evaluate_checkpoint(cfg, checkpoint, hooks=[keeper])
        for prefix, table in evaluation.tables.items():
            table.save(folder / f"{prefix}.npz")
        keeper.draw(folder / "overlays.png", evaluation.thresholds, self.note)
        record = {
            "name": step.name,
            "config": _short_path(step.config),
            "checkpoint": os.path.relpath(checkpoint, self.work_dir),
            "reused": runner.parents,
            "iterations": runner.iter,
            "seconds": round(runner.seconds, 1),
            "metrics": evaluation.metrics,
        }
        write_metrics(result, evaluation, fingerprint=fingerprint, record=record)
        return json.loads(result.read_text())["record"]

    def _config(self, step: Step) -> Config:
        cfg = load_config(step.config, self.overrides, self.data_root, step.settings)
        cfg.work_dir = str(self.work_dir / step.name)
        cfg.step = step.name
        cfg.trust_checkpoint = self.trust_checkpoint
        cfg.resume = True
        cfg.console_level = "WARNING"
        cfg.experiment_name = f"{self.work_dir.name}_{step.name}_{time.time_ns()}"
        cfg.reuse = {
            module: [source, self._checkpoint(source)] for module, source in step.reuse.items()
        }
        return cfg

    def _checkpoint(self, step_name: str) -> str:
        found = newest_checkpoint(self.work_dir / step_name)
        if found is None:
            raise FileNotFoundError(
                f"{self.work_dir / step_name} holds no whole checkpoint; remove its "
                "metrics.json to train the step again"
            )
        return found

    def _fingerprint(self, step: Step, cfg: Config) -> str:
        """Changes with anything that bears on the result, the steps it starts from included."""
        relevant = cfg.to_dict()
        for key in ("experiment_name", "work_dir", "num_workers", "launcher"):
            relevant.pop(key, None)
        relevant["reuse"] = {
            module: self.fingerprints[source] for module, source in step.reuse.items()
        }
        text = json.dumps(relevant, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def _claim(folder: Path, fingerprint: str) -> None:
    """A folder belongs to one setting; another one must not resume from its weights."""
    mark = folder / "fingerprint.txt"
    if mark.is_file() and mark.read_text() != fingerprint:
        raise ConfigError(
            f"{folder} was begun with other settings (or another version of the config); "
            "choose another --work-dir, or remove it to start this step anew"
        )
    folder.mkdir(parents=True, exist_ok=True)
    partial = mark.with_suffix(".part")
    partial.write_text(fingerprint)
    partial.replace(mark)


def _short_path(path: Path) -> str:
    parts = path.parts
    return "/".join(parts[parts.index("configs") :]) if "configs" in parts else path.name
