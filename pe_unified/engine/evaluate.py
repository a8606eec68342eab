"""Evaluating a checkpoint: thresholds from validation, metrics on the test split."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import print_log

from pe_unified.checkpoints import load_checkpoint_safely, training_data
from pe_unified.disclaimer import training_notice
from pe_unified.engine.config import HEAD_OF_METRIC, ConfigError, listed_metrics
from pe_unified.engine.knobs import kind_of
from pe_unified.engine.runner import PERunner
from pe_unified.evaluation.intervals import warnings_of
from pe_unified.evaluation.metrics import PatientMetric, fix_thresholds
from pe_unified.evaluation.tables import Table
from pe_unified.image_network import without_start
from pe_unified.json_files import write_json
from pe_unified.registry import HOOKS


@dataclass(frozen=True)
class Evaluation:
    """Results of one evaluation.

    Fields:
        metrics: by key, ``<task>/<name>``, with ``<key>_ci``.
        thresholds: ``<task>/threshold`` that were applied, fixed before the test.
        tables: by task prefix, the arrays behind the metrics, for figures and comparisons.
        notice: what readers must know about the data that the model was trained on; may be empty.
    """

    metrics: dict[str, Any]
    thresholds: dict[str, float]
    tables: dict[str, Table]
    notice: str = ""


def merged(one: Evaluation, other: Evaluation) -> Evaluation:
    """The results of two evaluations of one model; the notice is that of the first."""
    return Evaluation(
        one.metrics | other.metrics,
        one.thresholds | other.thresholds,
        one.tables | other.tables,
        one.notice,
    )


def evaluate_checkpoint(
    cfg: Config,
    checkpoint: str | Path,
    hooks: list[Hook] | None = None,
    chosen: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Evaluate on the test split, with the thresholds that validation chose.

    The checkpoint has thresholds if validation ran in training; otherwise validation runs
    first. Test patients never influence them. A threshold that the config gives to a test
    metric takes precedence.

    Args:
        cfg: as :func:`~pe_unified.engine.load_config` gives it, with ``work_dir``; the network and
            the input are those that the checkpoint was trained with (``trained_with``).
        checkpoint: weights to evaluate.
        hooks: further hooks of the test loop, for instance to keep some predictions.
        chosen: thresholds from validation, instead of those in the checkpoint.

    Raises:
        ConfigError: no validation metric chooses a threshold that is needed.
    """
    stored = load_checkpoint_safely(checkpoint, trust=cfg.get("trust_checkpoint", False))
    runner = _test_runner(cfg, checkpoint, "test")
    chosen = (stored.get("meta") or {}).get("validated", {}) if chosen is None else chosen
    needed = [
        f"{metric.prefix}/threshold"
        for metric in metrics_in(runner.test_evaluator)
        if metric.threshold is None
    ]
    if any(chosen.get(key) is None for key in needed):
        require_thresholds(cfg)
        print_log("no thresholds in the checkpoint: choosing them on validation", "current")
        chosen = validate_checkpoint(cfg, checkpoint)
    thresholds = fix_thresholds(runner.test_evaluator, chosen)
    for hook in hooks or ():
        runner.register_hook(hook)
    metrics = runner.test()
    tables = {
        metric.prefix: metric.table
        for metric in metrics_in(runner.test_evaluator)
        if metric.table is not None
    }
    kept = {key: value for key, value in metrics.items() if key not in thresholds}
    return Evaluation(kept, thresholds, tables, training_notice(training_data(stored)))


def require_thresholds(cfg: Config) -> None:
    """Require that validation chooses the thresholds of the test, or the config gives them."""
    chosen = {kind_of(metric) for metric in listed_metrics(cfg, "val")}
    for metric in listed_metrics(cfg, "test"):
        kind = kind_of(metric)
        if kind in HEAD_OF_METRIC.keys() - chosen and metric.get("threshold") is None:
            raise ConfigError(
                f"{cfg.filename}: no validation chooses the threshold of {kind}; list it in "
                "val_evaluator too, or give it a threshold in test_evaluator"
            )


def validate_checkpoint(
    cfg: Config, checkpoint: str | Path, hooks: Sequence[Hook] = ()
) -> dict[str, Any]:
    """Metrics on the validation split, including the thresholds chosen there."""
    runner = _test_runner(cfg, checkpoint, "val")
    for hook in hooks:
        runner.register_hook(hook)
    return runner.test()


def _test_runner(cfg: Config, checkpoint: str | Path, split: str) -> PERunner:
    """A runner that only tests a checkpoint, on the given split."""
    cfg = copy.deepcopy(cfg)
    if split == "val":
        cfg.test_dataloader = cfg.val_dataloader
        cfg.test_evaluator = cfg.val_evaluator
    for key in (
        "train_dataloader",
        "train_cfg",
        "optim_wrapper",
        "param_scheduler",
        "val_dataloader",
        "val_cfg",
        "val_evaluator",
    ):
        cfg[key] = None
    without_start(cfg.model)
    cfg.reuse = {}
    cfg.resume = False
    cfg.load_from = str(checkpoint)
    cfg.default_hooks = {
        name: hook for name, hook in cfg.default_hooks.items() if hook and _serves_tests(hook)
    }
    cfg.custom_hooks = [hook for hook in cfg.get("custom_hooks") or () if _serves_tests(hook)]
    return PERunner.from_cfg(cfg)


def _serves_tests(hook: Mapping[str, Any]) -> bool:
    """Whether a hook also acts in tests, as the one that averages weights does."""
    kind = HOOKS.get(hook["type"]) if isinstance(hook["type"], str) else hook["type"]
    names = [name for name in dir(Hook) if "test" in name or name == "after_load_checkpoint"]
    return kind is None or any(getattr(kind, name) is not getattr(Hook, name) for name in names)


def metrics_in(evaluator: Evaluator) -> list[PatientMetric]:
    """The metrics of this package; those of other libraries choose no thresholds."""
    return [metric for metric in evaluator.metrics if isinstance(metric, PatientMetric)]


def write_metrics(path: Path, evaluation: Evaluation, **provenance: Any) -> None:
    """Write ``metrics.json`` atomically: metrics, thresholds, warnings, notice, provenance."""
    found = {
        "metrics": evaluation.metrics,
        "thresholds": evaluation.thresholds,
        "warnings": warnings_of(evaluation.tables),
        "notice": evaluation.notice,
    }
    write_json(path, {**provenance, **found})
