"""What only the end of a recipe would show, looked at before its first step trains."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from pe_unified.engine.config import ConfigError, listed_metrics
from pe_unified.engine.knobs import kind_of
from pe_unified.evaluation.intervals import LEVEL
from pe_unified.recipes.recipe import Step
from pe_unified.tasks import METRIC_NAMES, TASKS


def require_metric(metric: str, arms: Mapping[str, Config]) -> None:
    """What the end compares is a metric that both steps have."""
    if metric not in METRIC_NAMES:
        known = ", ".join(sorted(METRIC_NAMES))
        raise ConfigError(f"the comparison of '{metric}': no such metric; known: {known}")
    head = TASKS[metric.split("/")[0]].head
    for arm, cfg in arms.items():
        if not cfg.model.get(head):
            raise ConfigError(f"the comparison of '{metric}': step {arm} has no {head}")


def require_files(
    cfg: Config, splits: Sequence[str], begun: bool, step: Step | None = None
) -> None:
    """What a run, or a step beside earlier ones, needs is there.

    Weights to start from are needed no more where it has ``begun``.
    """
    whose = f"step {step.name}: " if step else ""
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        if loader is None or "ann_file" not in loader.dataset:
            continue
        file = Path(loader.dataset.data_root) / loader.dataset.ann_file
        if not file.is_file():
            raise FileNotFoundError(
                f"{whose}no annotations at {file}; convert a data set first "
                "(pe-unified convert), or point --data-root at one"
            )
    for module, source in (cfg.get("reuse") or {}).items():
        taken = step is not None and module in step.reuse
        if not begun and not taken and not Path(source).is_file():
            raise FileNotFoundError(f"{whose}{module} from {source}: no such checkpoint")


def require_test(step: Step, cfg: Config) -> None:
    """Every step is tested, with thresholds that validation chose or the config gives."""
    for part in ("test_dataloader", "test_cfg", "test_evaluator"):
        if not cfg.get(part):
            raise ConfigError(f"step {step.name}: a recipe tests every step; give it {part}")
    ours = {task.metric for task in TASKS.values()}
    chosen = {kind_of(metric) for metric in listed_metrics(cfg, "val")}
    for metric in listed_metrics(cfg, "test"):
        kind = kind_of(metric)
        if kind in ours - chosen and metric.get("threshold") is None:
            raise ConfigError(
                f"step {step.name}: no validation chooses the threshold of {kind}; list it in "
                "val_evaluator too, or give it a threshold in test_evaluator"
            )
        if kind in ours and metric.get("level", LEVEL) != LEVEL:
            raise ConfigError(
                f"step {step.name}: a recipe's summary is of {LEVEL:.0%} intervals; leave the "
                f"level of {kind} at that"
            )


def require_modules(step: Step, configs: Mapping[str, Config]) -> None:
    """What a step takes over, both networks have."""
    for module, source in step.reuse.items():
        part = module.split(".")[0]
        for name in (source, step.name):
            if not configs[name].model.get(part):
                raise ConfigError(
                    f"step {step.name} takes {module} from {source}: step {name} has no {part}"
                )
