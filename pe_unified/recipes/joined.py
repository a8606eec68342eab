"""A step that joins earlier ones to an ensemble, in place of training."""

from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from pe_unified.engine.ensemble import EnsembleList, MemberEntry, make_ensemble
from pe_unified.engine.evaluate import Evaluation
from pe_unified.engine.study_test import evaluate_studies
from pe_unified.recipes.recipe import EnsembleStep

#: The file in the step's folder, which ``pe-unified infer`` takes.
ENSEMBLE = "ensemble.pth"


def join_steps(
    wanted: EnsembleStep, checkpoints: Mapping[str, str], cfg: Config, folder: Path
) -> Evaluation:
    """Make the ensemble, its thresholds fixed on validation, and test it by slices and by lesions.

    Args:
        wanted: what it is made of.
        checkpoints: of the earlier steps, by name.
        cfg: of the step; gives the data.
        folder: gets the ensemble and the tables of the test.
    """
    entries = [
        MemberEntry(checkpoints[name], name, weight) for name, weight in wanted.weights.items()
    ]
    lungs = checkpoints[wanted.lungs] if wanted.lungs else ""
    made_of = EnsembleList(entries, wanted.rule, wanted.fuse, lungs=lungs)
    val, test = (cfg[f"{split}_dataloader"].dataset.to_dict() for split in ("val", "test"))
    trust = cfg.get("trust_checkpoint", False)
    make_ensemble(made_of, val, folder / ENSEMBLE, trust, cfg.step)
    evaluation = evaluate_studies(folder / ENSEMBLE, test, trust)
    for prefix, table in evaluation.tables.items():
        table.save(folder / f"{prefix}.npz")
    return evaluation
