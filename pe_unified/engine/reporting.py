"""Gather the results of a run or a published model for the reporting checklists."""

import json
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from pe_unified.cards.card import make_card
from pe_unified.cards.data import describe_data
from pe_unified.cards.reporting import reporting_page
from pe_unified.checkpoints import config_of, load_checkpoint_safely, newest_checkpoint
from pe_unified.errors import CheckpointError, DataError
from pe_unified.files import write_text
from pe_unified.inference.stored_model import digest_of


def write_reporting(
    source: Path, out: Path, data_root: Path | None = None, trust: bool = False
) -> None:
    """Write the page.

    Args:
        source: a published model, or the work dir of a training.
        out: path of the page.
        data_root: folder of the converted set; by default the one that the run read.
        trust: load pickled code.

    Raises:
        DataError: the folder holds no checkpoint, or the test of another one.
        CheckpointError: the file has no config.
    """
    checkpoint, folder = source, None
    if source.is_dir():
        newest = newest_checkpoint(source)
        if newest is None:
            raise DataError(source, "contains no checkpoint", "name a work dir or a file")
        checkpoint, folder = Path(newest), source
    stored = load_checkpoint_safely(checkpoint, trust)
    settings = config_of(stored)
    if settings is None:
        raise CheckpointError(
            f"{checkpoint}: contains no config; use a checkpoint of pe-unified train or publish"
        )
    card = stored["meta"].get("card") or _card(source, checkpoint, stored, settings, data_root)
    flows = _read(folder / "exam_flow.json") if folder else None
    write_text(out, reporting_page(card, settings, flows, digest_of(checkpoint)))


def _card(
    source: Path,
    checkpoint: Path,
    stored: Mapping[str, Any],
    settings: Mapping[str, Any],
    data_root: Path | None,
) -> dict[str, Any]:
    """The card that publishing would write, from the files in the folder."""
    told = (settings.get("test_dataloader") or {}).get("dataset", {}).get("data_root")
    root = data_root or (Path(told) if told else None)
    data = describe_data(root) if root and (data_root or root.is_dir()) else None
    # Steps of a recipe are tested in their own folder, other runs in one below it.
    paths = [source / "metrics.json", source / "test" / "metrics.json"]
    path = next((each for each in paths if each.is_file()), paths[0])
    found = _read(path)
    tested = None
    if found and "metrics" in found:
        _require_test_of(checkpoint, path, found)
        patients = data["splits"].get("test", {}).get("patients") if data else None
        tested = {
            "patients": "unknown" if patients is None else patients,
            "metrics": found["metrics"],
            "thresholds": found.get("thresholds", {}),
            "warnings": found.get("warnings", []),
            "subgroups": [],
        }
    return make_card(source.stem, stored, data, tested)


def _require_test_of(checkpoint: Path, path: Path, found: Mapping[str, Any]) -> None:
    """Refuse a test of another checkpoint: training may have continued since."""
    told = found.get("checkpoint") or (found.get("record") or {}).get("checkpoint")
    if told and PureWindowsPath(told).name != checkpoint.name:
        raise DataError(
            path,
            f"is from {PureWindowsPath(told).name}, but the newest checkpoint is {checkpoint.name}",
            "test that one (pe-unified test), or remove the file",
        )


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
