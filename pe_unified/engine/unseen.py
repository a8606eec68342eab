"""Check that models were not trained on the patients that they are evaluated on."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from pe_unified.checkpoints import load_checkpoint_safely, training_data
from pe_unified.datasets.slice_dataset import read_annotations
from pe_unified.datasets.sources import study_digest
from pe_unified.errors import CheckpointError, listed
from pe_unified.image_network import image_network
from pe_unified.version import __version__


def require_unseen(models: Mapping[str, Mapping[str, Any]], *splits: Mapping[str, Any]) -> None:
    """Refuse models that were trained on a study that sets thresholds or tests.

    A model that does not record its studies, as one of an earlier version, gives a warning.

    Args:
        models: checkpoints, by their names in messages.
        splits: configs of the data sets for thresholds and tests.

    Raises:
        CheckpointError: a model was; the message names it and the patients.
    """
    for name, stored in models.items():
        if not all("studies" in each for each in training_data(stored)):
            print_log(
                f"{name}: does not record which studies it was trained on, so it cannot be checked "
                "whether it is tested on studies that it was trained on",
                logger="current",
                level=logging.WARNING,
            )
        for split in splits:
            known = learned_patients(stored, split)
            if known:
                raise CheckpointError(
                    f"{name}: was trained on patients of {_annotations_of(split)}: "
                    f"{listed(known)}. Thresholds and tests need patients that no model was "
                    "trained on; convert with --splits-of the set that it was trained on, or take "
                    "a model trained on the training split of this set"
                )


def learned_patients(stored: Mapping[str, Any], split: Mapping[str, Any]) -> list[str]:
    """Patients of a split that a model was trained on, sorted.

    Args:
        stored: its checkpoint.
        split: config of the data set.
    """
    learned = {study for each in training_data(stored) for study in each.get("studies") or ()}
    if not learned:
        return []
    images = read_annotations(_annotations_of(split))[1]["images"]
    known = {
        image["patient_id"] for image in images if study_digest(image["study_uid"] or "") in learned
    }
    return sorted(known)


def pretraining_data(model: Mapping[str, Any], trust: bool = False) -> list[dict[str, Any]]:
    """The training data of the file that ``pretrained`` names in a model's config, if it does."""
    network, _ = image_network(model)
    pretrained = (network or {}).get("pretrained")
    if not pretrained or not Path(pretrained).is_file():
        return []
    return training_data(load_checkpoint_safely(pretrained, trust))


def as_checkpoint(trained_on: list[dict[str, Any]]) -> dict[str, Any]:
    """A checkpoint of which only the training data are known, for :func:`require_unseen`."""
    return {"meta": {"pe_unified": __version__, "trained_on": trained_on}}


def _annotations_of(split: Mapping[str, Any]) -> Path:
    """The file that lists the slices of a split."""
    return Path(split["data_root"]) / split["ann_file"]
