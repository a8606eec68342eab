"""Emboli of other slices, pasted into vessels."""

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

#: HU of blood without contrast medium: what an embolus is like that lets none in.
BLOOD_HU = 40.0
#: Of the lumen around an embolus, the pixels nearest to it that tell how bright it is.
_NEAREST = 30
#: An embolus is darker than its lumen by as much, HU.
_LEAST_CONTRAST = 30.0
#: What is darker than blood without contrast medium by more is lung, in pixels at a wall, HU.
_OWN_RANGE = 60.0


@dataclass(frozen=True)
class CutOut:
    """An embolus by itself.

    Fields:
        mask: bool (rows, cols), a free pixel all around it.
        darkness: float32 (rows, cols, slices), 0 as the lumen that it was in, 1 as blood without
            contrast medium; around the mask that of the middle of the embolus.
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

    Stands after :class:`LoadPELabels`, where HU are as stored, and before what scales the slice;
    best after :class:`CropToLungs`, which leaves less to search. An embolus keeps its form, turned
    and mirrored at random, and its size in pixels. It lies within the lumen of a vessel of a
    fitting width, away from other emboli, and is as dark between the vessel's blood and blood
    without contrast medium as it was in its own vessel. Its rim is blended over a pixel to each
    side, inside the lumen. With ``neighbours`` it is pasted into all slices of the stack at one
    place, where the vessel is in all of them, as dark in each as its place was in its own stack.

    HU tell vessels of the lungs from heart, aorta and bone, but not arteries from veins.

    Mask, boxes and label follow. A slice whose masks are unknown is left alone, and so is one that
    has no room.

    Args:
        probability: of a slice to be changed.
        most: emboli pasted into one slice; their number is drawn from 1 to this.
        sizes: smallest and largest embolus that is cut out, pixels.
        widest: a vessel is at most as many times as wide as the embolus.
        lumen: HU of vessels with contrast medium, from and to.
        spread: largest standard deviation of HU in a vessel; bone has more.
        hilum_mm: a vessel lies among the lungs and their branches, within gaps of twice as much, as
            heart and aorta do not; taken as pixels of 0.7 mm where spacing is unknown.
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
        # A generator of its own, so that what comes after is the same with and without.
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
        lumen = lumen_mask(results["hu"], *self.lumen, self.spread)
        spacing = results["spacing_mm"][1] if results.get("spacing_mm") else None
        lumen &= among_lungs(results["hu"], self.hilum_mm / (spacing or 0.7))
        for donor in donors:
            for embolus in self._cut(donor, rng):
                if self._paste(results, lumen, embolus, rng):
                    break
        return results

    def _cut(self, donor: dict, rng: np.random.Generator) -> Iterator[CutOut]:
        """The donor's emboli that are fit to be seen elsewhere, in random order."""
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
        """Whether there was room for it."""
        instances = results["instance_map"]
        taken = cv2.dilate((instances > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        radius = self.widest * float(distance_inside(embolus.mask).max())
        room = narrow_parts(lumen, radius) & ~taken
        # The room ends with the slice, but the free pixel around the mask need not lie in it.
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
    """An embolus, beside the blood that is nearest; None where it hardly differs from that.

    Args:
        hu: (rows, cols, slices) of its slice.
        mask: (rows, cols).
        lumen: flat indices of pixels of blood with contrast medium.
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
    """Weight of an embolus: 3/4 on its rim, 1 further inside, 1/4 on the pixels around it."""
    depth = np.where(mask, distance_inside(mask) - 0.5, 0.5 - distance_to(mask))
    return np.clip(0.5 + depth / 2, 0, 1).astype(np.float32)
