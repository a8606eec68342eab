"""Emboli of other slices, pasted into arteries, or into vessels where arteries are unknown."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from numpy.typing import NDArray

from pe_unified.datasets.lumen import (
    among_lungs,
    distance_inside,
    distance_to,
    lumen_mask,
    narrow_parts,
    places_for,
)
from pe_unified.datasets.slice_dataset import Draw
from pe_unified.datasets.slice_transforms import boxes_of_instances
from pe_unified.registry import TRANSFORMS

#: HU of blood without contrast medium, and of an embolus that contrast does not enter.
BLOOD_HU = 40.0
#: Number of nearest lumen pixels that determine the brightness around an embolus.
_NEAREST = 30
#: An embolus is at least this much darker than its lumen, HU.
_LEAST_CONTRAST = 30.0
#: Pixels that are darker than ``BLOOD_HU`` by more than this are partly lung, at a wall, HU.
_OWN_RANGE = 60.0


@dataclass(frozen=True)
class CutOut:
    """An embolus cut out of its slice.

    Fields:
        mask: bool (rows, cols), with a margin of one pixel.
        darkness: float32 (rows, cols, slices), 0 for its original lumen, 1 for blood without
            contrast medium; around the mask, the median of the embolus.
    """

    mask: NDArray[np.bool_]
    darkness: NDArray[np.float32]

    def turned(self, quarters: int, mirrored: bool) -> "CutOut":
        mask, darkness = np.rot90(self.mask, quarters), np.rot90(self.darkness, quarters)
        if mirrored:
            mask, darkness = mask[:, ::-1], darkness[:, ::-1]
        return CutOut(np.ascontiguousarray(mask), darkness)


@TRANSFORMS.register_module()
class PasteEmboli(BaseTransform):
    """Paste emboli of other slices into vessels of this one.

    Use it after :class:`LoadPELabels`, when HU are as stored, and before transforms that scale the
    slice; preferably after :class:`CropToLungs`, which leaves a smaller area to search. An embolus
    keeps its shape and its size in pixels, but is rotated and mirrored at random. It is placed in
    the lumen of a vessel of suitable width, away from other emboli. Its darkness, between the
    vessel's blood and blood without contrast medium, is the same as in its original vessel. Its rim
    is blended over one pixel on each side, inside the lumen. With ``neighbours`` it is pasted into
    all slices of the stack at the same position, where all slices show the vessel, with the
    darkness of the matching slice of its original stack.

    With artery masks (``structures`` of the data set), emboli are pasted into arteries of this
    slice only, also outside the lungs; its neighbours are checked by HU. For patients without masks
    only HU are known; they distinguish lung vessels from heart, aorta and bone, but not arteries
    from veins.

    Mask, boxes and label are updated. A slice is not changed if its masks are unknown or no vessel
    fits.

    Args:
        probability: probability that a slice is changed.
        most: largest number of emboli pasted into one slice; the number is drawn from 1 to this.
        sizes: smallest and largest area of an embolus that is cut out, pixels.
        widest: largest ratio of the widths of vessel and embolus.
        lumen: range of HU of vessels with contrast medium.
        spread: largest standard deviation of HU in a vessel; bone has more.
        hilum_mm: without artery masks, vessels are searched in the lungs and in gaps between them
            up to twice this wide, which excludes heart and aorta; if spacing is unknown, pixels
            count as 0.7 mm.
    """

    def __init__(
        self,
        probability: float = 0.5,
        most: int = 2,
        sizes: tuple[int, int] = (6, 2500),
        widest: float = 3.0,
        lumen: tuple[float, float] = (150.0, 600.0),
        spread: float = 60.0,
        hilum_mm: float = 10.0,
    ) -> None:
        if not 0 <= probability <= 1 or most < 1 or widest < 1:
            raise ValueError(
                "PasteEmboli: probability in [0, 1], most and widest at least 1; got "
                f"{probability}, {most} and {widest}"
            )
        self.probability, self.most, self.sizes, self.widest = probability, most, sizes, widest
        self.lumen, self.spread, self.hilum_mm = lumen, spread, hilum_mm

    def draw_others(self, results: dict, with_emboli: NDArray[np.intp]) -> list[Draw]:
        # A separate generator, so that later transforms draw the same numbers with and without it.
        (rng,) = results["rng"].spawn(1)
        if rng.random() >= self.probability or not len(with_emboli):
            return []
        if results["instance_map"] is None:
            return []
        chosen = rng.choice(with_emboli, rng.integers(1, self.most + 1))
        return [Draw(int(index), int(rng.integers(2**62))) for index in chosen]

    def transform(self, results: dict) -> dict:
        (rng,) = results["rng"].spawn(1)
        donors = results.pop("mix_results", ())
        if not donors:
            return results
        lumen = lumen_mask(results["hu"], *self.lumen, self.spread) & self._searched(results)
        for donor in donors:
            for embolus in self._cut(donor, rng):
                if self._paste(results, lumen, embolus, rng):
                    break
        return results

    def _searched(self, results: dict) -> NDArray[np.bool_]:
        """The arteries if they are known, else the lungs with their hila; bool (rows, cols)."""
        if results["arteries"] is not None:
            x0, y0, x1, y1 = results["crop_box"]
            return results["arteries"]()[y0:y1, x0:x1]
        spacing = results["spacing_mm"][1] if results.get("spacing_mm") else None
        return among_lungs(results["hu"], self.hilum_mm / (spacing or 0.7))

    def _cut(self, donor: dict, rng: np.random.Generator) -> Iterator[CutOut]:
        """The donor's suitable emboli, in random order."""
        instances, hu = donor["instance_map"], donor["hu"]
        areas = np.bincount(instances.ravel())
        areas[0] = 0
        numbers = np.flatnonzero((areas >= self.sizes[0]) & (areas <= self.sizes[1]))
        lumen = lumen_mask(hu, *self.lumen, self.spread) & (instances == 0)
        inner = np.flatnonzero(distance_inside(lumen) > 1)
        if len(inner) < _NEAREST:
            return
        for number in rng.permutation(numbers):
            embolus = _cut_out(hu, instances == number, inner)
            if embolus is not None:
                yield embolus.turned(int(rng.integers(4)), bool(rng.integers(2)))

    def _paste(
        self,
        results: dict,
        lumen: NDArray[np.bool_],
        embolus: CutOut,
        rng: np.random.Generator,
    ) -> bool:
        """Paste an embolus into the slice, if there is room; return whether there was."""
        instances = results["instance_map"]
        taken = cv2.dilate((instances > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        radius = self.widest * float(distance_inside(embolus.mask).max())
        room = narrow_parts(lumen, radius) & ~taken
        # The mask must be inside the slice, but its margin of one pixel may be outside.
        places = places_for(embolus.mask[1:-1, 1:-1], room)
        if not len(places):
            return False
        hu = np.pad(results["hu"], ((1, 1), (1, 1), (0, 0)), mode="edge")
        free = np.pad(lumen & (instances == 0), 1)
        corner = places[rng.integers(len(places))]
        at = tuple(slice(start, start + side) for start, side in zip(corner, embolus.mask.shape))
        weight = (_soft(embolus.mask) * free[at])[..., None]
        blood = np.median(hu[at][embolus.mask], axis=0)
        dark = blood - embolus.darkness * (blood - BLOOD_HU)
        hu[at] = np.rint((1 - weight) * hu[at] + weight * dark).astype(hu.dtype)
        results["hu"] = hu[1:-1, 1:-1]
        marked = np.pad(instances, 1)
        marked[at][embolus.mask] = instances.max() + 1
        results["instance_map"] = np.ascontiguousarray(marked[1:-1, 1:-1])
        results["label"] = 1
        if results["boxes"] is not None:
            results["boxes"] = boxes_of_instances(results["instance_map"])
        return True


def _cut_out(
    hu: NDArray[np.int16], mask: NDArray[np.bool_], lumen: NDArray[np.intp]
) -> CutOut | None:
    """Cut out an embolus; None if it hardly differs from the nearest blood.

    Args:
        hu: (rows, cols, slices), its slice with neighbours.
        mask: (rows, cols).
        lumen: flat indices of pixels with contrast-filled blood.
    """
    nearest = lumen[np.argpartition(distance_to(mask).ravel()[lumen], _NEAREST - 1)[:_NEAREST]]
    blood = np.median(hu.reshape(-1, hu.shape[-1])[nearest], axis=0)
    own = np.clip(hu[mask], BLOOD_HU - _OWN_RANGE, blood)
    middle = np.median(own, axis=0)
    if (middle > blood - _LEAST_CONTRAST)[len(blood) // 2]:
        return None
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    inside = np.pad(mask[box], 1)
    values = np.tile(middle, (*inside.shape, 1))
    values[inside] = own
    return CutOut(inside, ((blood - values) / (blood - BLOOD_HU)).astype(np.float32))


def _soft(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Blending weight: 3/4 on the embolus's rim, 1 further inside, 1/4 on the pixels around it."""
    depth = np.where(mask, distance_inside(mask) - 0.5, 0.5 - distance_to(mask))
    return np.clip(0.5 + depth / 2, 0, 1).astype(np.float32)
