"""How much steps train, alone and together with all steps that they start from.

Reused weights include the training of the steps that they come from. A control is a step from
scratch that trains as much as such a chain in total: it separates the effect of reuse from that
of longer training.
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
    """The training behind a step's weights.

    Fields:
        chain: number of slices that each step trains with, by name: this one, and all that it
            takes weights from, directly or through others.
    """

    chain: Mapping[str, int]

    @property
    def slices(self) -> int:
        """Slices of the whole chain."""
        return sum(self.chain.values())


def budget_of(step: Step, cfg: Config, earlier: Mapping[str, Budget]) -> Budget:
    """Budget of a step with this config; ``earlier``: budgets of the steps it may start from."""
    own = 0 if step.extract or step.ensemble else cfg.max_iters * cfg.train_dataloader.batch_size
    chain = {step.name: own}
    for source in step.parents:
        chain |= earlier[source].chain
    return Budget(chain)


def with_totals(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records of a run's steps, in order, with the total training of each.

    Added: ``total_slices``, with which the step and all that it started from were trained, and
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
    """Overrides that make a config train with as many slices as ``goal`` in total."""
    return of_length(cfg, math.ceil(goal.slices / cfg.train_dataloader.batch_size))


def seed_of_draws(seed: int, step_name: str) -> int:
    """The seed of order and augmentation in a step, different for every step of a run.

    Otherwise a step that continues from another's weights would see the same pictures again.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{step_name}".encode()).digest()[:4])
