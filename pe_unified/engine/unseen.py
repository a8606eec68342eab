"""Whether a model has learned from the patients that it is to be judged by."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pe_unified.checkpoints import training_data
from pe_unified.datasets.slice_dataset import read_annotations, study_digest


def learned_patients(stored: Mapping[str, Any], split: Mapping[str, Any]) -> list[str]:
    """Patients of a split from whom a model has learned, sorted.

    Args:
        stored: its checkpoint.
        split: config of the data set.
    """
    learned = {study for each in training_data(stored) for study in each.get("studies") or ()}
    if not learned:
        return []
    images = read_annotations(annotations_of(split))[1]["images"]
    known = {
        image["patient_id"] for image in images if study_digest(image["study_uid"] or "") in learned
    }
    return sorted(known)


def annotations_of(split: Mapping[str, Any]) -> Path:
    """The file that lists the slices of a split."""
    return Path(split["data_root"]) / split["ann_file"]


def tells_its_studies(stored: Mapping[str, Any]) -> bool:
    """Whether a checkpoint says what studies all its weights were trained on."""
    return all("studies" in each for each in training_data(stored))
