"""How much steps train, by themselves and with all that they start from.

Reused weights carry the training of the steps that they come from. A control is a step from
scratch that trains as much as such a chain in all: it tells what reuse brings from what longer
training brings.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from pe_unified.engine.pace import of_length
from pe_unified.recipes.recipe import Step


@dataclass(frozen=True)
class Budget:
    """What a step's weights have been trained with.

    Fields:
        chain: slices that each step trains with, by name: this one, and all that it takes weights
            from, directly or through others.
    """

    chain: Mapping[str, int]

    @property
    def slices(self) -> int:
        """Of the whole chain."""
        return sum(self.chain.values())


def budget_of(step: Step, cfg: Config, earlier: Mapping[str, Budget]) -> Budget:
    """What a step of this config trains with; ``earlier``: budgets of those it may start from."""
    own = 0 if step.extract or step.ensemble else cfg.max_iters * cfg.train_dataloader.batch_size
    chain = {step.name: own}
    for source in step.parents:
        chain |= earlier[source].chain
    return Budget(chain)


def with_totals(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records of a run's steps, in order, with how much each was trained in all.

    Added: ``total_slices`` that the step and all that it started from were trained with, and
    ``total_iterations``, the same in batches of its own size.
    """
    budgets: dict[str, Budget] = {}
    found = []
    for record in records:
        name, batch_size = record["name"], record["batch_size"]
        chain = {name: record["iterations"] * batch_size}
        for source in (each["from"] for each in record["reused"]):
            if source in budgets:  # else weights from elsewhere
                chain |= budgets[source].chain
        budgets[name] = Budget(chain)
        slices = budgets[name].slices
        total = {"total_slices": slices, "total_iterations": round(slices / batch_size)}
        found.append({**record, **total})
    return found


def stretched(cfg: Config, goal: Budget) -> dict[str, int]:
    """Overrides that make a config train with as many slices as ``goal`` in all."""
    return of_length(cfg, math.ceil(goal.slices / cfg.train_dataloader.batch_size))


def seed_of_draws(seed: int, step_name: str) -> int:
    """The seed of order and augmentation in a step: no two steps of a run draw alike.

    A step that goes on from another's weights would see the very same pictures again.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{step_name}".encode()).digest()[:4])
