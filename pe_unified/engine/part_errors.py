"""Faults of a config that appear when its parts are built, reported before it trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import nn

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.datasets.exam_dataset import PEExamDataset
from pe_unified.datasets.slice_dataset import FINDINGS, PESliceDataset
from pe_unified.datasets.volume_dataset import PEVolumeDataset
from pe_unified.engine.config import ConfigError
from pe_unified.errors import UserError, one_line
from pe_unified.models.exam_model import PEExam
from pe_unified.models.slice_model import PEUnified
from pe_unified.models.volume_model import PEVolume
from pe_unified.tasks import TASKS

#: Errors that parts raise when they are given a value or a name that they do not accept.
_OF_SETTINGS = (ValueError, TypeError, LookupError, AssertionError, AttributeError, ImportError)


@contextmanager
def building(part: str) -> Iterator[None]:
    """Name the part of the config in errors while it is built.

    Raises:
        ConfigError: instead of the error that the part's class raises about its settings.
    """
    try:
        yield
    except UserError:  # its message is complete
        raise
    except _OF_SETTINGS as error:
        reason = one_line(str(error)) or type(error).__name__
        raise ConfigError(f"the config's {part} cannot be built: {reason}") from error


def require_labels(model: nn.Module, dataset: Any) -> None:
    """Require positive labels in the training data for every head that learns.

    Negative slices have all kinds of labels, so they do not suffice. Networks and data sets from
    outside the package are not checked.
    """
    if isinstance(model, PEExam) and isinstance(dataset, PEExamDataset):
        _require_both_classes(model, dataset)
    if isinstance(model, PEVolume) and isinstance(dataset, PEVolumeDataset):
        _require_volumes(model, dataset)
    if not isinstance(model, PEUnified) or not isinstance(dataset, PESliceDataset):
        return
    for task in (TASKS[name] for name in model.tasks):
        learns = any(weight.requires_grad for weight in model.head(task.name).parameters())
        labels = (dataset.get_data_info(index)[task.labels] for index in range(len(dataset)))
        if learns and not any(_shows_embolus(label) for label in labels):
            finding = FINDINGS[dataset.label if task.labels == "label" else "pe"]
            raise ConfigError(
                f"{dataset.ann_file}: none of its {len(dataset)} slices shows {finding} by its "
                f"{task.labels}, so the {task.head} would learn nothing; take a config without it, "
                "or merge a set that has such slices into this one (pe-unified merge)"
            )


def _require_both_classes(model: PEExam, dataset: PEExamDataset) -> None:
    """Refuse exams, or steps of exams, whose known labels are all the same."""
    items = [dataset.get_data_info(index) for index in range(len(dataset))]
    if model.exam_head is not None:
        columns = np.array([item["targets"] for item in items])[:, model.exam_head.columns]
        if not any(len(np.unique(column[~np.isnan(column)])) > 1 for column in columns.T):
            answered = ", ".join(EXAM_TARGETS[column] for column in model.exam_head.columns)
            raise ConfigError(
                f"{dataset.ann_file}: in its {len(items)} exams, no label of {answered} has two "
                "known values, so the exam_head would learn nothing; train on exams of both kinds"
            )
    head = model.step_head
    learns = head is not None and any(weight.requires_grad for weight in head.parameters())
    if learns and model.labels_from == "steps":
        known = {label for item in items for label in item["step_labels"]} & {0.0, 1.0}
        # Beside an exam_head, labels of steps may be unknown: those of exams are enough.
        if len(known) == 1 or (not known and model.exam_head is None):
            value = "unknown" if not known else "positive" if 1.0 in known else "negative"
            raise ConfigError(
                f"{dataset.ann_file}: the labels of its steps are all {value}, so the step_head "
                "would learn nothing; train on exams of both kinds"
            )


def _require_volumes(model: PEVolume, dataset: PEVolumeDataset) -> None:
    """Refuse volumes without any embolus, or without arteries, if there is a head for them."""
    if model.lesion_head is not None and not (dataset.labels() == 1).any():
        raise ConfigError(
            f"{dataset.ann_file}: none of its {len(dataset)} studies is known to show embolism, so "
            "the lesion_head would learn nothing; merge a set with masks into this one"
        )
    if model.artery_head is not None and not dataset.knows_arteries():
        raise ConfigError(
            f"{dataset.ann_file}: there are no masks of arteries, so the artery_head would learn "
            "nothing; name their folder (structures=FOLDER), or take volumes/aanet3d_no_artery"
        )


def _shows_embolus(label: Any) -> bool:
    """Whether a label of a slice, or its list of boxes or masks, is known and positive."""
    return label is not None and bool(label if isinstance(label, int) else len(label))
