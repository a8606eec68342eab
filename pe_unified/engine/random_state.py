"""The state of every random generator of every process, so that a resumed run continues them."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size


def gather_random_states() -> list[dict[str, Any]]:
    """One state per process, by rank, as plain data and tensors; all processes must call it."""
    return all_gather_object(_random_state())


def restore_random_state(stored: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> bool:
    """Restore the state of this process's generators.

    Args:
        stored: as :func:`gather_random_states` gives them, or a single state, as in older
            checkpoints.

    Returns:
        False, and nothing is changed, if another number of processes wrote them.
    """
    states = [stored] if isinstance(stored, Mapping) else stored
    if len(states) != get_world_size():
        return False
    _restore(states[get_rank()])
    return True


def _random_state() -> dict[str, Any]:
    _, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    version, internal, gauss_next = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(internal), gauss_next],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _restore(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(  # noqa: NPY002
        ("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached)
    )
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    if "cuda" in state and torch.cuda.is_available():
        devices = torch.cuda.device_count()
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"][:devices]])
