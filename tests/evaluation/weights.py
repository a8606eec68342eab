"""Statistics of a table at weights of its patients."""

from typing import Any

import numpy as np


def drawn_weights(patients: int, draws: int, seed: int) -> np.ndarray:
    """How often each patient is drawn with replacement: (draws, patients)."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(patients, np.full(patients, 1 / patients), draws).astype(float)


def at_unit_weights(table: Any, at: Any = 0.5) -> dict[str, float]:
    """The metrics of a table, at a threshold or at rates, with every patient counted once."""
    values = table.statistic(at)(np.ones((1, len(table.patients))))
    return {name: float(value[0]) for name, value in values.items()}
