"""Checks, before the first step trains, of what would otherwise fail at the end of a recipe."""

from collections.abc import Collection, Mapping
from pathlib import Path

from mmengine.config import Config

from pe_unified.engine.config import HEAD_OF_METRIC, ConfigError, listed_metrics, require_part
from pe_unified.engine.evaluate import require_thresholds
from pe_unified.engine.knobs import kind_of
from pe_unified.engine.study_test import LESION_TABLES
from pe_unified.evaluation.intervals import LEVEL
from pe_unified.models.weights import names_of_rule
from pe_unified.recipes.recipe import Comparison, Step
from pe_unified.registry import METRICS
from pe_unified.tasks import METRIC_NAMES


def require_weights(step: Step, configs: Mapping[str, Config], begun: bool) -> None:
    """Require the reused parts in both networks, and any checkpoint from outside the recipe.

    Such a file is no longer needed if the step has ``begun``.
    """
    for module, source in step.reuse.items():
        own, stored = names_of_rule(module)
        for name, part in ((source, stored), (step.name, own)):
            why = f"step {step.name} takes {module} from step {source}"
            require_part(configs[name], part.split(".")[0], why)
    for module, file in (configs[step.name].get("reuse") or {}).items():
        if not begun and module not in step.reuse and not Path(file).is_file():
            raise FileNotFoundError(f"step {step.name}: {module} from {file}: no such checkpoint")


def require_members(step: Step, configs: Mapping[str, Config]) -> None:
    """Require that an ensemble joins slice models, a lung detector and a volume model."""
    for what, source in step.ensemble.steps.items() if step.ensemble else ():
        wanted = {"lungs": "LungDetector", "volumes": "PEVolume"}.get(what, "PEUnified")
        found = kind_of(configs[source].model)
        if found != wanted:
            raise ConfigError(
                f"step {step.name} takes {source} as {what}, which is a {found}, not a {wanted}"
            )


def require_test(step: Step, cfg: Config) -> None:
    """Require that a step is tested, at known thresholds, with intervals as in the summary."""
    for part in ("test_dataloader", "test_cfg", "test_evaluator"):
        if not cfg.get(part):
            raise ConfigError(f"step {step.name}: a recipe tests every step; give it {part}")
    require_thresholds(cfg)
    for metric in listed_metrics(cfg, "test"):
        if kind_of(metric) in HEAD_OF_METRIC and metric.get("level", LEVEL) != LEVEL:
            raise ConfigError(f"step {step.name}: a summary takes {LEVEL:.0%} intervals only")


def require_comparison(
    comparison: Comparison, configs: Mapping[str, Config], by_lesions: Collection[str] = ()
) -> None:
    """Require that both steps of a comparison have its metric.

    ``by_lesions``: names of steps whose lesions are measured, too.
    """
    metric, *arms = comparison
    if metric not in METRIC_NAMES:
        known = ", ".join(sorted(METRIC_NAMES))
        raise ConfigError(f"the comparison of '{metric}': no such metric; known: {known}")
    task = metric.split("/")[0]
    for arm in arms:
        kinds = [METRICS.get(each["type"]) for each in listed_metrics(configs[arm], "test")]
        if task in LESION_TABLES and arm in by_lesions:
            continue
        if task not in {getattr(kind, "default_prefix", None) for kind in kinds}:
            raise ConfigError(
                f"the comparison of '{metric}' takes step {arm}, whose test measures no {task}"
            )
