"""What a run or a published model leaves, gathered for the reporting checklists."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pe_unified.cards.card import make_card
from pe_unified.cards.data import describe_data
from pe_unified.cards.reporting import reporting_page
from pe_unified.checkpoints import (
    CheckpointError,
    config_of,
    load_checkpoint_safely,
    newest_checkpoint,
)
from pe_unified.errors import DataError
from pe_unified.files import write_text
from pe_unified.inference.stored_model import digest_of


def write_reporting(
    source: Path, out: Path, data_root: Path | None = None, trust: bool = False
) -> None:
    """Write the page.

    Args:
        source: a published model, or the work dir of a training.
        out: the page.
        data_root: of the converted set; where the run read it by default.
        trust: load pickled code.

    Raises:
        DataError: the folder holds no checkpoint.
        CheckpointError: the file carries no config.
    """
    checkpoint, folder = source, None
    if source.is_dir():
        newest = newest_checkpoint(source)
        if newest is None:
            raise DataError(source, "no checkpoint of a training", "name a work dir or a file")
        checkpoint, folder = Path(newest), source
    stored = load_checkpoint_safely(checkpoint, trust)
    settings = config_of(stored)
    if settings is None:
        raise CheckpointError(
            f"{checkpoint}: carries no config; take a checkpoint of pe-unified train or publish"
        )
    card = stored["meta"].get("card") or _card(source.stem, stored, settings, folder, data_root)
    flows = _read(folder / "exam_flow.json") if folder else None
    write_text(out, reporting_page(card, settings, flows, digest_of(checkpoint)))


def _card(
    name: str,
    stored: Mapping[str, Any],
    settings: Mapping[str, Any],
    folder: Path | None,
    data_root: Path | None,
) -> dict[str, Any]:
    """The card that publishing would write, by what lies there."""
    told = (settings.get("test_dataloader") or {}).get("dataset", {}).get("data_root")
    root = data_root or (Path(told) if told else None)
    data = describe_data(root) if root and (data_root or root.is_dir()) else None
    found = _read(folder / "metrics.json") if folder else None
    tested = None
    if found and "metrics" in found:
        patients = data["splits"].get("test", {}).get("patients") if data else None
        tested = {
            "patients": "unknown" if patients is None else patients,
            "metrics": found["metrics"],
            "thresholds": found.get("thresholds", {}),
            "warnings": found.get("warnings", []),
            "subgroups": [],
        }
    return make_card(name, stored, data, tested)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
