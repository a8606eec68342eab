"""Patient weights that a statistic may be called with."""

import numpy as np


def drawn_weights(patients: int, draws: int, seed: int) -> np.ndarray:
    """How often each patient is drawn with replacement: (draws, patients)."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(patients, np.full(patients, 1 / patients), draws).astype(float)
