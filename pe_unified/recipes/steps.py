"""Training in steps: every step of a recipe, one after another or several at a time."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process

from pe_unified.checkpoints import checkpoints_of, newest_checkpoint
from pe_unified.engine.config import ConfigError, absent_head, load_config
from pe_unified.engine.evaluate import evaluate_checkpoint, merged, write_metrics
from pe_unified.engine.extract import extract
from pe_unified.engine.fingerprint import WITHOUT_EFFECT, fingerprint_of
from pe_unified.engine.knobs import apply_knobs, changed_knobs
from pe_unified.engine.launchers import join_processes
from pe_unified.engine.overlays import KeepViewsHook
from pe_unified.engine.runner import PERunner
from pe_unified.files import write_text
from pe_unified.jobs import Job, Report, run_jobs
from pe_unified.json_files import write_json
from pe_unified.progress import phase
from pe_unified.recipes.budget import Budget, budget_of, seed_of_draws, stretched, with_totals
from pe_unified.recipes.comparison import Run
from pe_unified.recipes.joined import ENSEMBLE, join_steps, measure_step
from pe_unified.recipes.preflight import (
    require_comparison,
    require_members,
    require_test,
    require_weights,
)
from pe_unified.recipes.recipe import EnsembleStep, Recipe, Step, load_recipe
from pe_unified.recipes.summary import headline, write_summary


def run_recipe(
    path: str | Path,
    work_dir: Path,
    data_root: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0,),
    note: str = "",
    trust_checkpoint: bool = False,
    jobs: int = 1,
    launcher: str = "none",
    report: Report = print,
) -> dict[str, Any]:
    """Train and test every step, then write the summary.

    Finished steps are kept, an interrupted one is resumed. With several seeds, each has a
    folder ``seed<k>`` with its own summary, and the summary in the work dir compares the arms
    over all of them.

    Args:
        path: the recipe.
        work_dir: every step gets a folder in it.
        data_root: the converted data set.
        overrides: for every step, by dotted key; take precedence over the recipe's settings.
        seeds: of weights, order and augmentation.
        note: printed under every figure, for instance that data are synthetic.
        trust_checkpoint: allow checkpoints that contain pickled code.
        jobs: steps trained at a time, each in a process with its share of the cores.
        launcher: ``"none"``, or what started the processes that train each step together.
        report: called with one line of text at a time.

    Returns:
        The content of ``summary.json``.
    """
    recipe = load_recipe(path)
    told = [overrides or {}, *(each for step in recipe.steps for each in step.settings)]
    if any("seed" in each for each in told):
        raise ConfigError("a recipe takes its seeds from --seeds, not from overrides or settings")
    if launcher != "none" and jobs > 1:
        raise ConfigError("use either several jobs or a launcher, not both")
    join_processes(launcher)
    seeds = tuple(dict.fromkeys(seeds))
    folders = {seed: work_dir / f"seed{seed}" if len(seeds) > 1 else work_dir for seed in seeds}
    steps: list[StepRun] = []
    for seed, folder in folders.items():
        prefix = f"seed {seed}, " if len(seeds) > 1 else ""
        common = dict(
            folder=folder,
            data_root=data_root,
            overrides={**dict(overrides or {}), "seed": seed},
            launcher=launcher,
            trust_checkpoint=trust_checkpoint,
            note=note,
        )
        steps += _steps_of(recipe, prefix, common)
    records = {run.title: kept for run in steps if (kept := run.kept_record()) is not None}
    left = [run for run in steps if run.title not in records]
    for run in left:
        run.refuse_other()
    for title in records:
        report(f"{title}: finished before")
    queue = [
        Job(
            name=run.title,
            run=run,
            needs=tuple(title for title in run.needs if title not in records),
            cost=run.iterations,
        )
        for run in left
    ]
    records.update(run_jobs(queue, jobs, report))
    runs = [
        Run(seed, folder, with_totals(records[run.title] for run in steps if run.folder == folder))
        for seed, folder in folders.items()
    ]
    if is_main_process():
        with phase("comparing the arms and drawing figures"):
            write_summary(recipe, work_dir, runs, note)
    barrier()
    return json.loads((work_dir / "summary.json").read_text(encoding="utf-8"))


def _steps_of(recipe: Recipe, prefix: str, common: Mapping[str, Any]) -> list["StepRun"]:
    """One run of every step, in order; ``common``: the fields that all share."""
    fingerprints: dict[str, str] = {}
    titles: dict[str, str] = {}
    runs = []
    configs: dict[str, Config] = {}
    budgets: dict[str, Budget] = {}
    idle = set(common["overrides"] or ())
    for number, step in enumerate(recipe.steps, start=1):
        titles[step.name] = f"{prefix}[{number}/{len(recipe.steps)}] {step.name}"
        own = dict(common)
        cfg = _config_of(step, own["overrides"], own["data_root"])
        if step.as_long_as:
            own["overrides"] = {**own["overrides"], **stretched(cfg, budgets[step.as_long_as])}
            cfg = _config_of(step, own["overrides"], own["data_root"])
        budgets[step.name] = budget_of(step, cfg, budgets)
        idle = {key for key in idle if absent_head(cfg, key)}
        configs[step.name] = cfg
        begun = bool(checkpoints_of(common["folder"] / step.name))
        require_weights(step, configs, begun)
        require_members(step, configs)
        require_test(step, cfg)
        joined = step.ensemble.steps if step.ensemble else {}
        sources = {**step.reuse, **step.stores, **joined}
        parents = {module: fingerprints[source] for module, source in sources.items()}
        fingerprints[step.name] = _fingerprint(cfg, step, parents)
        run = StepRun(
            step=step,
            title=titles[step.name],
            needs=tuple(titles[source] for source in step.parents),
            iterations=0 if step.extract or step.ensemble else cfg.max_iters,
            fingerprint=fingerprints[step.name],
            **own,
        )
        runs.append(run)
    by_lesions = [step.name for step in recipe.steps if step.ensemble or step.lesions]
    for comparison in recipe.comparisons:
        require_comparison(comparison, configs, by_lesions)
    if idle:
        raise ConfigError(f"override '{min(idle)}': no step of the recipe has that head")
    return runs


def _config_of(step: Step, overrides: Mapping[str, Any], data_root: str | None) -> Config:
    """A step's config, with its own random draws."""
    cfg = load_config(step.config, overrides, data_root, step.settings, of_recipe=True)
    sampler = cfg.train_dataloader.sampler
    sampler.seed = seed_of_draws(sampler.get("seed", cfg.randomness.seed), step.name)
    return cfg


def _fingerprint(cfg: Config, step: Step, parents: Mapping[str, str]) -> str:
    """Digest of everything that affects the result: settings, annotations, earlier steps."""
    more: dict[str, Any] = {"step": step.name, "reuse": {**(cfg.get("reuse") or {}), **parents}}
    if step.ensemble:
        more["ensemble"] = asdict(step.ensemble)
    return fingerprint_of(cfg, more)


@dataclass(frozen=True)
class StepRun:
    """One step of one run, which can be called in any process: trains, tests, records.

    Fields:
        step: what to train.
        title: unique name on the console.
        needs: titles of the steps that it starts from.
        iterations: how long it trains.
        fingerprint: digest of everything that affects the result.
        folder: folder of the run; holds the step's own folder and those of earlier steps.
        data_root, overrides, launcher, trust_checkpoint, note: as for :func:`run_recipe`.
    """

    step: Step
    title: str
    needs: tuple[str, ...]
    iterations: int
    fingerprint: str
    folder: Path
    data_root: str | None
    overrides: Mapping[str, Any]
    launcher: str
    trust_checkpoint: bool
    note: str

    def __call__(self, report: Report) -> dict[str, Any]:
        """Train and test; returns the record for ``summary.json``."""
        result = self.result
        cfg = self._config()
        if is_main_process():
            write_text(_mark_of(result.parent), self.fingerprint)
        if self.step.extract:
            return self._extract(cfg, report)
        if self.step.ensemble:
            return self._ensemble(cfg, self.step.ensemble, report)
        report(f"{self.title}: {self.iterations} iterations of {self.step.config.name}")
        runner = PERunner.from_cfg(cfg)
        runner.train()
        barrier()
        for parent in runner.parents:
            line = "{module}: {tensors} of {total} tensors from {from}".format(**parent)
            report(f"{self.title}: {line}")
        checkpoint = self._checkpoint(self.step.name)
        keeper = KeepViewsHook()
        evaluation = evaluate_checkpoint(cfg, checkpoint, hooks=[keeper])
        if is_main_process():
            if self.step.lesions:
                lesions = measure_step(self.step.name, checkpoint, cfg, result.parent)
                evaluation = merged(evaluation, lesions)
            for prefix, table in evaluation.tables.items():
                table.save(result.parent / f"{prefix}.npz")
            who = f"Step {self.step.name}, seed {cfg.randomness.seed}. "
            if cfg.test_dataloader.dataset.get("label", "pe") == "pe":  # overlays show emboli
                keeper.draw(result.parent / "overlays.png", evaluation.thresholds, who + self.note)
            record = {
                "name": self.step.name,
                "config": _short_path(self.step.config),
                "checkpoint": os.path.relpath(checkpoint, self.folder),
                "reused": [*runner.parents, *self._read()],
                "iterations": runner.iter,
                "batch_size": cfg.train_dataloader.batch_size,
                "seconds": round(runner.seconds, 1),
                "parameters": sum(each.numel() for each in runner.network.parameters()),
                "lesions": self.step.lesions,
                "metrics": evaluation.metrics,
            }
            write_metrics(result, evaluation, fingerprint=self.fingerprint, record=record)
        barrier()
        report(f"{self.title}: {headline(evaluation.metrics)} after {runner.seconds:.0f} s")
        return json.loads(result.read_text(encoding="utf-8"))["record"]

    def _read(self) -> list[dict[str, str]]:
        """The kinds of stored answers that it reads, and from which earlier steps."""
        stored = {"features": self.step.features, "lung_scores": self.step.lung_scores}
        return [{"module": what, "from": step} for what, step in stored.items() if step]

    def _extract(self, cfg: Config, report: Report) -> dict[str, Any]:
        """Store features instead of training; returns the record."""
        report(f"{self.title}: features by {self.step.config.name}")
        found = extract(cfg, self.result.parent)
        record = {
            "name": self.step.name,
            "config": _short_path(self.step.config),
            "checkpoint": os.path.relpath(found.store.encoder, self.folder),
            "features": os.path.relpath(found.store.folder, self.folder),
            "reused": found.parents,
            "iterations": 0,
            "batch_size": 1,
            "seconds": found.seconds,
            "metrics": {},
        }
        if is_main_process():
            write_json(self.result, {"fingerprint": self.fingerprint, "record": record})
        barrier()
        report(f"{self.title}: {found.exams} exams after {found.seconds:.0f} s")
        return record

    def _ensemble(self, cfg: Config, wanted: EnsembleStep, report: Report) -> dict[str, Any]:
        """Join earlier steps instead of training, and test them; returns the record."""
        report(f"{self.title}: {', '.join(wanted.weights)} together")
        if is_main_process():
            started = time.monotonic()
            files = {name: self._checkpoint(name) for name in wanted.steps.values()}
            evaluation = join_steps(wanted, files, cfg, self.result.parent)
            record = {
                "name": self.step.name,
                "config": _short_path(self.step.config),
                "checkpoint": os.path.relpath(self.result.with_name(ENSEMBLE), self.folder),
                "reused": [{"module": what, "from": name} for what, name in wanted.steps.items()],
                "iterations": 0,
                "batch_size": 1,
                "seconds": round(time.monotonic() - started, 1),
                "metrics": evaluation.metrics,
            }
            write_metrics(self.result, evaluation, fingerprint=self.fingerprint, record=record)
        barrier()
        record = json.loads(self.result.read_text(encoding="utf-8"))["record"]
        report(f"{self.title}: {headline(record['metrics'])} after {record['seconds']:.0f} s")
        return record

    @property
    def result(self) -> Path:
        """The file in the step's folder that marks the step as finished."""
        return self.folder / self.step.name / "metrics.json"

    def kept_record(self) -> dict[str, Any] | None:
        """The record, if the step is finished with these settings, and with lesions if wanted.

        An extraction itself checks what is missing.
        """
        if self.step.extract or not self.result.is_file():
            return None
        kept = json.loads(self.result.read_text(encoding="utf-8"))
        if kept.get("fingerprint") != self.fingerprint:
            return None
        record = kept["record"]
        return None if self.step.lesions and not record.get("lesions") else record

    def refuse_other(self) -> None:
        """Refuse a folder that was begun with other settings: its weights must not be resumed."""
        folder = self.result.parent
        mark = _mark_of(folder)
        begun = any(folder.glob("*.pth")) or self.result.exists()
        if begun and not (mark.is_file() and mark.read_text(encoding="utf-8") == self.fingerprint):
            raise ConfigError(
                f"{folder} was started with other settings ({_changes(folder, self._settings())}); "
                "choose another --work-dir, or remove it to start this step again"
            )

    def _settings(self) -> Config:
        return _config_of(self.step, self.overrides, self.data_root)

    def _config(self) -> Config:
        step, cfg = self.step, self._settings()
        cfg.work_dir = str(self.folder / step.name)
        cfg.step = step.name
        cfg.trust_checkpoint = self.trust_checkpoint
        cfg.launcher = self.launcher
        cfg.resume = True
        cfg.console_level = "WARNING"
        earlier = {
            module: [source, self._checkpoint(source)] for module, source in step.reuse.items()
        }
        cfg.reuse = {**(cfg.get("reuse") or {}), **earlier}
        for knob, source in step.stores.items():
            kept = json.loads((self.folder / source / "metrics.json").read_text("utf-8"))
            cfg[knob] = str(self.folder / kept["record"]["features"])
        apply_knobs(cfg)
        return cfg

    def _checkpoint(self, step_name: str) -> str:
        found = newest_checkpoint(self.folder / step_name)
        if found is None:
            raise FileNotFoundError(
                f"{self.folder / step_name} holds no complete checkpoint; remove its "
                "metrics.json to train the step again"
            )
        return found


def _mark_of(folder: Path) -> Path:
    """The file with the fingerprint of the settings that a step was begun with."""
    return folder / "fingerprint.txt"


def _changes(folder: Path, now: Config) -> str:
    """A text on the settings that differ from those that a step's folder was begun with."""
    dumped = folder / Path(now.filename).name
    before = dict(Config.fromfile(dumped).items()) if dumped.is_file() else {}
    before = {name: value for name, value in before.items() if name not in WITHOUT_EFFECT}
    return "; ".join(changed_knobs(before, now)) or "a config, the annotations or an earlier step"


def _short_path(path: Path) -> str:
    parts = path.parts
    return "/".join(parts[parts.index("configs") :]) if "configs" in parts else path.name
