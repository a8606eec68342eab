"""How much steps train, by themselves and with all that they start from.

Reused weights carry the training of the steps that they come from. A control is a step from
scratch that trains as much as such a chain in all: it tells what reuse brings from what longer
training brings.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from pe_unified.engine.recipe import Step


@dataclass(frozen=True)
class Budget:
    """What a step's weights have been trained with.

    Fields:
        batch_size: slices of an iteration.
        chain: slices that each step trains with, by name: this one, and all that it takes weights
            from, directly or through others.
    """

    batch_size: int
    chain: Mapping[str, int]

    @property
    def slices(self) -> int:
        """Of the whole chain."""
        return sum(self.chain.values())

    @property
    def total_iterations(self) -> int:
        """Iterations of the step's own batch size that the whole chain amounts to."""
        return round(self.slices / self.batch_size)


def budget_of(step: Step, cfg: Config, earlier: Mapping[str, Budget]) -> Budget:
    """What a step of this config trains with; ``earlier``: budgets of those it may start from."""
    batch_size = cfg.train_dataloader.batch_size
    chain = {step.name: cfg.max_iters * batch_size}
    for source in step.reuse.values():
        chain |= earlier[source].chain
    return Budget(batch_size, chain)


def stretched(cfg: Config, goal: Budget) -> dict[str, Any]:
    """Overrides that make a config train with as many slices as ``goal`` in all.

    Warm-up keeps its share of the run; what follows ends with it.
    """
    iterations = math.ceil(goal.slices / cfg.train_dataloader.batch_size)
    if "warmup_iters" not in cfg:
        return {"max_iters": iterations}
    warmup = round(cfg.warmup_iters * iterations / cfg.max_iters)
    return {"max_iters": iterations, "warmup_iters": warmup}


def seed_of_draws(seed: int, step_name: str) -> int:
    """The seed of order and augmentation in a step: no two steps of a run draw alike.

    A step that goes on from another's weights would see the very same pictures again.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{step_name}".encode()).digest()[:4])
