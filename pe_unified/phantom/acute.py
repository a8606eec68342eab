"""Acute emboli: clots that fill the lumen, float in it, or lie on one wall."""

import numpy as np

from pe_unified.phantom.tree import VesselTree
from pe_unified.phantom.tubes import Tubes


def acute_tubes(
    rng: np.random.Generator, tree: VesselTree, nodes: np.ndarray, shape: str, wide: float
) -> Tubes:
    """Tubes of the clot along the chosen nodes, not yet cut by the lumen."""
    chosen = np.zeros(len(tree), dtype=bool)
    chosen[nodes] = True
    chosen[nodes[0]] = False
    tubes = tree.tubes(chosen)
    if shape == "occlusive":
        return tubes.grown(by=0.4, factor=wide)
    if shape == "polo_mint":
        share = rng.uniform(0.6, 0.74)
        sway = rng.normal(0, 0.09, (len(tree), 3)) * tree.radius[:, None]
        node = np.flatnonzero(chosen & (tree.parent >= 0))
        up = tree.parent[node]
        moved = Tubes(
            tubes.start + sway[up], tubes.end + sway[node], tubes.radius_start, tubes.radius_end
        )
        return moved.grown(factor=share)
    # A wall-adherent clot lies against one wall: its tube is shifted towards it.
    toward = rng.standard_normal(3)
    run = tubes.end - tubes.start
    run /= np.maximum(np.linalg.norm(run, axis=1), 1e-6)[:, None]
    across = toward - run * (run * toward).sum(1)[:, None]
    across /= np.maximum(np.linalg.norm(across, axis=1), 1e-6)[:, None]
    share = rng.uniform(0.45, 0.6)
    moved = Tubes(
        tubes.start + across * (tubes.radius_start * share)[:, None],
        tubes.end + across * (tubes.radius_end * share)[:, None],
        tubes.radius_start,
        tubes.radius_end,
    )
    return moved.grown(factor=0.85 * max(wide / 1.15, 1.0))
