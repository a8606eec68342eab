"""Emboli in an arterial tree: where they lodge, how far they extend, how much they fill."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from pe_unified.phantom.acute import acute_tubes
from pe_unified.phantom.calcium import calcify
from pe_unified.phantom.chronic import narrowed_beyond, paint_chronic
from pe_unified.phantom.grid import Grid
from pe_unified.phantom.labels import Embolus
from pe_unified.phantom.study_plan import CHRONIC_SHAPES, EmbolusPlan, PaintingPlan
from pe_unified.phantom.tree import LEVEL_NAMES, MAIN, TRUNK, VesselTree
from pe_unified.phantom.tubes import paint_tubes

#: Radius of the narrowest artery that can hold an embolus, mm.
_NARROWEST = 2.1
#: Minimum volume of emboli that may sit astride the trunk's bifurcation, ml.
_SADDLE_ML = 9.0
#: Maximum length of one embolus, mm.
_LONGEST = 110.0
#: Minimum distance between emboli, so that each is one component, mm.
_APART = 9.0
#: Minimum coverage of a voxel that belongs to a shape.
HALF = 128
#: Minimum coverage of the lumen for clot: the outermost voxels are half lung.
_WITHIN = 158
#: Minimum size of a part of an embolus in a slice, pixels.
_SPECK = 3
#: Share of a vessel's cross-section that each shape fills.
_SHARE = {
    "occlusive": 1.0,
    "polo_mint": 0.46,
    "mural": 0.52,
    "crescent": 0.42,
    "web": 0.4,
    "recanalised": 0.8,
}
#: Radius of the narrowest artery with a web, pixels: its bands must leave open lumen.
_WEB_PIXELS = 1.6


@dataclass(frozen=True)
class PaintedEmboli:
    """Result of :func:`paint_emboli`.

    Attributes:
        instances: uint8 (slices, rows, cols), 0 = none, else the embolus's number.
        fill: uint8 (slices, rows, cols), share of the lumen that is clot, 255 for all of it.
        hu: float32 (number of emboli + 1,), attenuation by number, without calcium; index 0 is
            unused.
        calcium: int16 (slices, rows, cols), HU of calcified parts of clots, 0 elsewhere.
        emboli: those in the map.
        nodes: (n,) bool, tree nodes within or near an embolus.
        tree: the arteries, narrowed beyond chronic emboli.
    """

    instances: np.ndarray
    fill: np.ndarray
    hu: np.ndarray
    calcium: np.ndarray
    emboli: tuple[Embolus, ...]
    nodes: np.ndarray
    tree: VesselTree


def _places(
    rng: np.random.Generator,
    planned: EmbolusPlan,
    tree: VesselTree,
    usable: np.ndarray,
    strict: bool,
) -> np.ndarray:
    """Nodes where an embolus of this size may start: wide enough to enter, too narrow to pass.

    A clot lodges where the width of the artery lets it extend for one to ten widths; some of the
    largest sit on the bifurcation of the trunk (saddle emboli).
    """
    fits = 1000 * planned.volume_ml / (np.pi * _SHARE[planned.shape])
    widest = max((fits / 1.7) ** (1 / 3), 2.6)
    narrow = max(min((fits / 18) ** (1 / 3), 6.0), _NARROWEST)
    if planned.volume_ml > _SADDLE_ML and rng.random() < 0.4:
        main = np.flatnonzero((tree.level == MAIN) & (tree.parent >= 0))
        fork = np.unique(tree.parent[main[tree.level[tree.parent[main]] == TRUNK]])
        fork = fork[usable[fork]]
        if len(fork):
            return fork
    usable = usable & (tree.level >= MAIN)
    if not strict:
        return np.flatnonzero(usable)
    return np.flatnonzero(usable & (tree.radius > narrow) & (tree.radius < widest))


def _run(tree: VesselTree, start: int, volume_ml: float, share: float) -> np.ndarray:
    """Nodes downstream of ``start`` that hold the volume; moves upstream if there are too few.

    Args:
        share: of the cross-section of the tree's round tubes that the clot fills.
    """
    area = np.pi * tree.radius**2 * share * tree.lengths() / 1000
    while True:
        far = tree.distance_below(start)
        thin = tree.radius < max(0.55 * tree.radius[start], 0.9 * _NARROWEST)
        far[thin | (far > _LONGEST)] = np.inf
        order = np.argsort(far, kind="stable")
        order = order[np.isfinite(far[order])]
        filled = np.cumsum(area[order]) - area[start]
        if (len(filled) and filled[-1] >= 0.7 * volume_ml) or tree.parent[start] < 0:
            count = int(np.searchsorted(filled, volume_ml)) + 1
            return order[: max(count, 2)]
        start = int(tree.parent[start])


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest 26-connected component of a mask."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count < 2:
        return mask
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """A mask without parts smaller than :data:`_SPECK` pixels in their slice."""
    across = np.zeros((3, 3, 3), dtype=bool)
    across[1] = True
    labels, count = ndimage.label(mask, across)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return (sizes >= _SPECK)[labels]


def _bounds(grid: Grid, points: np.ndarray, margin: float) -> tuple[slice, ...] | None:
    index = grid.index_of(points)
    reach = margin / np.asarray(grid.spacing)
    low = np.maximum(np.floor(index.min(0) - reach).astype(int), 0)
    high = np.minimum(np.ceil(index.max(0) + reach).astype(int) + 1, grid.shape)
    return None if (low >= high).any() else tuple(slice(a, b) for a, b in zip(low, high))


def _describe(
    plan: EmbolusPlan, number: int, volume_ml: float, tree: VesselTree, nodes: np.ndarray
) -> Embolus:
    inner = nodes[1:] if len(nodes) > 1 else nodes
    bulk = tree.radius[inner] ** 2 * np.maximum(tree.lengths()[inner], 1e-3)
    bulk = bulk / bulk.sum()
    central = float(bulk[tree.level[inner] <= MAIN].sum())
    left = float(bulk[tree.side[inner] > 0].sum()) > 0.04
    right = float(bulk[tree.side[inner] < 0].sum()) > 0.04
    is_central = central > 0.1 or not (left or right)
    proximal = [n for n in range(len(LEVEL_NAMES)) if bulk[tree.level[inner] <= n].sum() > 0.1]
    level = proximal[0]
    return Embolus(
        number=number,
        volume_ml=volume_ml,
        level=LEVEL_NAMES[level],
        left=left,
        right=right,
        central=is_central,
        shape=plan.shape,
        chronic=plan.chronic,
        hu=plan.hu,
    )


class _Lodging:
    """The emboli painted so far in one study; paints the next ones."""

    def __init__(
        self,
        rng: np.random.Generator,
        tree: VesselTree,
        arteries: np.ndarray,
        grid: Grid,
        wide: float,
    ) -> None:
        self.rng, self.tree, self.arteries, self.grid, self.wide = rng, tree, arteries, grid, wide
        self.instances = np.zeros(grid.shape, dtype=np.uint8)
        self.fill = np.zeros(grid.shape, dtype=np.uint8)
        self.near = np.zeros(len(tree), dtype=bool)
        self.taken = np.zeros(len(tree), dtype=bool)
        self.calcium = np.zeros(grid.shape, dtype=np.int16)
        self.painted: list[Embolus] = []
        self.soft_hu: list[float] = [0.0]
        self.chronic: list[int] = []
        inside = grid.index_of(tree.points)
        seen = ((inside > 1) & (inside < np.asarray(grid.shape) - 2)).all(1)
        self.seen = seen & (tree.parent >= 0)
        self.voxel_ml = float(np.prod(grid.spacing)) / 1000

    def lodge(self, planned: EmbolusPlan, attempts: int, strict: int) -> bool:
        """Try to paint an embolus; the first ``strict`` attempts use only places of its size."""
        tree = self.tree
        share = _SHARE[planned.shape] * self.wide / 1.15
        narrowest = _NARROWEST
        if planned.shape == "web" and strict:
            narrowest = max(narrowest, _WEB_PIXELS * self.grid.pixel)
        for attempt in range(attempts):
            usable = self.seen & ~self.near & (tree.radius > narrowest)
            places = _places(self.rng, planned, tree, usable, attempt < strict)
            if not len(places):
                continue
            start = int(places[self.rng.integers(len(places))])
            nodes = _run(tree, start, planned.volume_ml, share)
            if self.near[nodes].any():
                continue
            painted = self._paint(planned, nodes, strict > 0)
            if painted is not None:
                embolus, nodes = painted
                self.painted.append(embolus)
                self._keep_clear(nodes)
                if planned.chronic:
                    self.chronic.append(int(nodes[0]))
                return True
        return False

    def _keep_clear(self, nodes: np.ndarray) -> None:
        """Prevent other emboli from lodging next to these nodes."""
        self.taken[nodes] = True
        points = self.tree.points
        away = np.full(len(points), np.inf)
        for node in nodes:
            away = np.minimum(away, ((points - points[node]) ** 2).sum(1))
        self.near |= away < (_APART + self.tree.radius[nodes].max()) ** 2

    def _shape(
        self, planned: EmbolusPlan, nodes: np.ndarray, part: Grid, lumen: np.ndarray
    ) -> np.ndarray:
        """Coverage of a clot along nodes in a part of the grid, before the lumen cuts it."""
        if planned.shape in CHRONIC_SHAPES:
            return paint_chronic(self.rng, self.tree, nodes, planned.shape, lumen, part, self.wide)
        clot = np.zeros(part.shape, dtype=np.uint8)
        paint_tubes(clot, part, acute_tubes(self.rng, self.tree, nodes, planned.shape, self.wide))
        return clot

    def _paint(
        self, planned: EmbolusPlan, nodes: np.ndarray, bounded: bool
    ) -> tuple[Embolus, np.ndarray] | None:
        """Paint along nodes; returns the embolus and its nodes, or None if it does not fit."""
        tree, grid = self.tree, self.grid
        box = _bounds(grid, tree.points[nodes], 2.0 * float(tree.radius[nodes].max()) + 3)
        if box is None:
            return None
        low, high = (tuple(getattr(s, end) for s in box) for end in ("start", "stop"))
        part = Grid(
            (high[0] - low[0], high[1] - low[1], high[2] - low[2]),
            grid.spacing,
            tuple(grid.point_of(np.array(low)).tolist()),  # type: ignore[arg-type]
        )
        free = (self.arteries[box] >= _WITHIN) & (self.instances[box] == 0)
        state = self.rng.bit_generator.state
        # Lumens differ from the round tubes of the tree: shorten the clot until its volume fits.
        for _ in range(6):
            self.rng.bit_generator.state = state
            clot = self._shape(planned, nodes, part, self.arteries[box])
            mask = (clot >= HALF) & free
            if not mask.any():
                return None
            mask = _largest_piece(_without_specks(mask))
            volume = int(mask.sum()) * self.voxel_ml
            excess = volume / planned.volume_ml
            if excess < 1.15 or len(nodes) < 3:
                break
            nodes = nodes[: max(int(len(nodes) / min(excess, 2.5)), 2)]
        most = max(2.2 * planned.volume_ml, 6 * self.voxel_ml) if bounded else np.inf
        if mask.sum() < _SPECK or not 0.25 * planned.volume_ml < volume < most:
            return None
        number = len(self.painted) + 1
        self.instances[box][mask] = number
        # Keep the soft edge of the clot only next to its mask: no flecks without ground truth.
        close = ndimage.binary_dilation(mask, np.ones((1, 3, 3)))
        soft = np.where(mask, np.maximum(clot, HALF), np.where(close, clot, 0)).astype(np.uint8)
        self.fill[box] = np.maximum(self.fill[box], soft)
        embolus = _describe(planned, number, volume, tree, nodes)
        if planned.calcified:
            calcium, hu = calcify(self.rng, mask, part)
            self.calcium[box][calcium] = hu
            share = float(calcium.sum() / mask.sum())
            mean = (1 - share) * embolus.hu + share * hu
            embolus = replace(embolus, hu=mean)
        self.soft_hu.append(planned.hu)
        return embolus, nodes


def paint_emboli(
    plan: PaintingPlan, tree: VesselTree, arteries: np.ndarray, grid: Grid, wide: float = 1.15
) -> PaintedEmboli:
    """Paint the planned emboli into the arteries.

    Args:
        arteries: uint8 (slices, rows, cols) coverage of the arterial lumen.
        wide: how far an occlusive clot extends before the lumen cuts it, as a factor of the
            tree's tubes; above 1 because real lumens are not round.

    Returns:
        At least one embolus if the plan has any; those that no artery of this grid can show are
        left out.

    Raises:
        ValueError: the plan has emboli, but the grid is too coarse to show any.
    """
    lodging = _Lodging(plan.rng("emboli"), tree, arteries, grid, wide)
    for planned in plan.emboli:
        lodging.lodge(planned, attempts=8, strict=5)
    for planned in plan.emboli if not lodging.painted else ():
        # A positive study must show one, if necessary larger than planned, and a chronic one
        # without its typical shape.
        if planned.chronic:
            planned = replace(planned, shape="occlusive")
        if lodging.lodge(planned, attempts=60, strict=0):
            break
    if plan.emboli and not lodging.painted:
        raise ValueError(
            f"phantom of seed {plan.seed}: no artery of a grid {grid.shape} with spacing "
            f"{tuple(round(s, 2) for s in grid.spacing)} mm can show an embolus; "
            "take finer spacing or cover more of the chest"
        )
    return PaintedEmboli(
        lodging.instances,
        lodging.fill,
        np.array(lodging.soft_hu, dtype=np.float32),
        lodging.calcium,
        tuple(lodging.painted),
        lodging.near,
        narrowed_beyond(tree, lodging.chronic, lodging.taken) if lodging.chronic else tree,
    )
