"""Faults of a config that show when its parts are built: told by the part, before it trains."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from pe_unified.datasets.slice_dataset import DatasetError, PESliceDataset
from pe_unified.engine.config import ConfigError
from pe_unified.errors import one_line
from pe_unified.models.slice_model import PEUnified
from pe_unified.models.weights import CheckpointError, ReuseError
from pe_unified.tasks import TASKS

#: Their messages say all that there is to say.
_CLEAR = (ConfigError, DatasetError, CheckpointError, ReuseError)
#: What parts raise when they are given a value or a name that they do not take.
_OF_SETTINGS = (ValueError, TypeError, LookupError, AssertionError, AttributeError, ImportError)


@contextmanager
def building(part: str) -> Iterator[None]:
    """Name the part of the config that cannot be built.

    Raises:
        ConfigError: in place of what the part's class raises of its settings.
    """
    try:
        yield
    except _CLEAR:
        raise
    except _OF_SETTINGS as error:
        reason = one_line(str(error)) or type(error).__name__
        raise ConfigError(f"the config's {part} cannot be built: {reason}") from error


def require_labels(model: nn.Module, dataset: Any) -> None:
    """Every head that is to learn finds emboli among the slices of training.

    Negative slices know all labels, so these alone say nothing. Other networks and data sets than
    the package's own are let pass.

    Raises:
        ConfigError: a head would learn nothing, and its answers be reported all the same.
    """
    if not isinstance(model, PEUnified) or not isinstance(dataset, PESliceDataset):
        return
    wanted = {
        TASKS[task].labels: TASKS[task].head
        for task in model.tasks
        if any(weight.requires_grad for weight in model.head(task).parameters())
    }
    for index in range(len(dataset)):
        if not wanted:
            return
        item = dataset.get_data_info(index)
        for kind in [kind for kind in wanted if _shows_embolus(item, kind)]:
            del wanted[kind]
    if wanted:
        kind, head = next(iter(wanted.items()))
        raise ConfigError(
            f"{dataset.ann_file}: none of its {len(dataset)} slices shows embolism by its {kind}, "
            f"so the {head} would learn nothing; take a config without it, or merge a set that has "
            "such slices into this one (pe-unified merge)"
        )


def _shows_embolus(item: Mapping[str, Any], kind: str) -> bool:
    """Whether a slice's labels of a kind are known, and positive."""
    found = item[kind]
    return found is not None and bool(found if kind == "label" else len(found))
