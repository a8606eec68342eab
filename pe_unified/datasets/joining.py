"""Several slices with few embolus pixels, joined into one with more."""

import numpy as np
from mmcv.transforms import BaseTransform
from numpy.typing import NDArray

from pe_unified.datasets.slice_dataset import Draw
from pe_unified.datasets.slice_transforms import boxes_of_instances
from pe_unified.registry import TRANSFORMS


@TRANSFORMS.register_module()
class JoinSlices(BaseTransform):
    """Replace a slice that has few embolus pixels by crops around emboli of several slices.

    Like mmdet's mosaic, but with crops instead of shrunken slices, in which emboli of a few pixels
    would vanish: pixels keep their size, and a joined sample has exactly the pixels of its parts.
    Use it after :class:`ResizeSlice`, when all slices have the same size. Slices without emboli or
    with unknown masks are not changed.

    Masks, boxes and label are updated. ``spacing_mm`` becomes unknown, because the parts may
    differ; all other information is that of the slice that was drawn.

    Args:
        below: slices with a smaller share of embolus pixels are joined.
        probability: probability that such a slice is joined.
        grid: numbers of rows and columns of parts.
    """

    def __init__(
        self, below: float = 0.005, probability: float = 0.5, grid: tuple[int, int] = (2, 2)
    ) -> None:
        if not 0 <= probability <= 1 or min(grid) < 1 or max(grid) < 2:
            raise ValueError(
                "JoinSlices: probability in [0, 1], a grid of two parts or more; got "
                f"{probability} and {grid}"
            )
        self.below, self.probability, self.grid = below, probability, tuple(grid)

    def draw_others(self, results: dict, with_emboli: NDArray[np.intp]) -> list[Draw]:
        (rng,) = results["rng"].spawn(1)
        instances = results["instance_map"]
        if rng.random() >= self.probability or instances is None:
            return []
        if not 0 < (instances > 0).mean() < self.below:
            return []
        chosen = rng.choice(with_emboli, self.grid[0] * self.grid[1] - 1)
        return [Draw(int(index), int(rng.integers(2**62))) for index in chosen]

    def transform(self, results: dict) -> dict:
        (rng,) = results["rng"].spawn(1)
        others = results.pop("mix_results", ())
        if not others:
            return results
        slices = [results, *others]
        order = iter(rng.permutation(len(slices)))
        edges = [
            [side * part // parts for part in range(parts + 1)]
            for side, parts in zip(results["img_shape"], self.grid, strict=True)
        ]
        hu = np.empty_like(results["hu"])
        joined = np.zeros_like(results["instance_map"])
        for top, bottom in zip(edges[0], edges[0][1:]):
            for left, right in zip(edges[1], edges[1][1:]):
                part = slices[next(order)]
                seen = _window(part["instance_map"], (bottom - top, right - left), rng)
                instances = part["instance_map"][seen]
                numbered = np.where(instances > 0, instances + joined.max(), 0)
                hu[top:bottom, left:right] = part["hu"][seen]
                joined[top:bottom, left:right] = numbered
        results["hu"], results["instance_map"] = hu, joined
        results["spacing_mm"] = None
        if results["boxes"] is not None:
            results["boxes"] = boxes_of_instances(joined)
        return results


def _window(
    instances: NDArray[np.uint16], size: tuple[int, int], rng: np.random.Generator
) -> tuple[slice, slice]:
    """A window around an embolus pixel, or anywhere if a crop has removed all emboli.

    The pixel is in the middle half of the window, as far as the slice extends.
    """
    found = np.argwhere(instances > 0)
    centre = found[rng.integers(len(found))] if len(found) else rng.integers(instances.shape)
    sides = np.array(size)
    corner = centre - np.rint(sides * rng.uniform(0.25, 0.75, 2)).astype(int)
    row, col = np.clip(corner, 0, np.array(instances.shape) - sides)
    return slice(row, row + size[0]), slice(col, col + size[1])
