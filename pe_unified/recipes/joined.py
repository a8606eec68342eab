"""A step that joins earlier ones into an ensemble, and the lesions of a single step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_unified.engine.ensemble import EnsembleList, MemberEntry, make_ensemble
from pe_unified.engine.evaluate import Evaluation
from pe_unified.engine.study_test import evaluate_studies, measure_lesions
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.recipes.recipe import EnsembleStep

#: The file in the step's folder, which ``pe-unified infer`` reads.
ENSEMBLE = "ensemble.pth"


def join_steps(
    wanted: EnsembleStep, checkpoints: Mapping[str, str], cfg: Config, folder: Path
) -> Evaluation:
    """Make the ensemble, with thresholds set on validation, and test it by slices and by lesions.

    Args:
        wanted: its members and settings.
        checkpoints: of the earlier steps, by name.
        cfg: config of the step; gives the data.
        folder: folder for the ensemble and the tables of the test.
    """
    entries = [
        MemberEntry(checkpoints[name], name, weight) for name, weight in wanted.weights.items()
    ]
    lungs, volumes = (checkpoints.get(name, "") for name in (wanted.lungs, wanted.volumes))
    made_of = EnsembleList(entries, wanted.rule, wanted.fuse, lungs=lungs, volumes=volumes)
    _, test, trust = _join(made_of, cfg, folder)
    evaluation = evaluate_studies(folder / ENSEMBLE, test, trust)
    for prefix, table in evaluation.tables.items():
        table.save(folder / f"{prefix}.npz")
    return evaluation


def measure_step(name: str, checkpoint: str, cfg: Config, folder: Path) -> Evaluation:
    """Test the lesions that reports by the model of a step would list, on the test split.

    Args:
        name: name of the step.
        checkpoint: its trained checkpoint.
        cfg: config of the step; gives the data.
        folder: folder for the model with its thresholds, as an ensemble of one.
    """
    alone = EnsembleList([MemberEntry(checkpoint, name)])
    validated, test, trust = _join(alone, cfg, folder)
    predictor = StudyPredictor(load_model(folder / ENSEMBLE, trust))
    return measure_lesions(predictor, test, validated.get("findings/threshold"))


def _join(
    made_of: EnsembleList, cfg: Config, folder: Path
) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Write the file; returns its thresholds, the test split, and whether code is trusted."""
    val, test = (cfg[f"{split}_dataloader"].dataset.to_dict() for split in ("val", "test"))
    trust = cfg.get("trust_checkpoint", False)
    validated = make_ensemble(made_of, val, folder / ENSEMBLE, trust, cfg.step)
    return validated, test, trust
