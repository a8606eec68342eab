"""Placing of a mask on its study: by its header, or voxel by voxel, mirrored or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from pe_unified.ct.grids import Turn, turned_affine
from pe_unified.ct.mask_volumes import MaskVolume
from pe_unified.ct.overlay import nearest_voxels, same_grid
from pe_unified.ct.study import CTStudy
from pe_unified.errors import DataError

#: Words of the column ``placed``; mirrored ones stand for slices, rows, columns.
BY_INDEX, UNCHECKED = "index", "unchecked"
MIRRORED = ("up-down", "front-back", "left-right")
#: If a larger share of a mask is outside the scan, it belongs to another scan.
_MOST_OUTSIDE = 0.1
#: Grids are the same if their voxels differ by at most this, in voxels.
_SAME = 0.1


@dataclass(frozen=True)
class Placing:
    """A way to place a mask on a study.

    Attributes:
        by_index: voxel by voxel; headers are ignored.
        flips: whether slices, rows and columns are reversed.
        unchecked: the HU are not checked.
    """

    by_index: bool = False
    flips: tuple[bool, bool, bool] = (False, False, False)
    unchecked: bool = False

    @classmethod
    def of_words(cls, text: str, where: str) -> "Placing":
        """Parse the words of the table.

        Raises:
            DataError: an unknown word.
        """
        words, known = text.casefold().split(), (BY_INDEX, *MIRRORED, UNCHECKED)
        if not set(words) <= set(known):
            cure = f"write any of {', '.join(known)}, or nothing"
            raise DataError(where, f"placed is '{text}'", cure)
        up, front, left = (name in words for name in MIRRORED)
        return cls(BY_INDEX in words, (up, front, left), UNCHECKED in words)

    @property
    def words(self) -> str:
        """The words for the table."""
        names = [name for name, flip in zip(MIRRORED, self.flips, strict=True) if flip]
        return " ".join([BY_INDEX, *names] if self.by_index else names)

    def mirrored(self, other: "Placing") -> "Placing":
        """This placing combined with the flips of another."""
        up, front, left = (a != b for a, b in zip(self.flips, other.flips, strict=True))
        return Placing(self.by_index, (up, front, left))

    def turned(self, values: np.ndarray) -> np.ndarray:
        """A view of values (slices, rows, cols), mirrored."""
        return values[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]


#: All mirror images; those with fewer flips first.
MIRROR_IMAGES = tuple(
    Placing(flips=(up, front, left))
    for up, front, left in sorted(product((False, True), repeat=3), key=sum)
)


def laid_by_index(volume: MaskVolume, study: CTStudy) -> np.ndarray | None:
    """Values (slices, rows, cols), voxel by voxel; None if the shapes differ.

    If the study is a volume, the mask has the same axes; else columns, rows, slices.
    """
    if study.grid is not None:
        if volume.array.shape != study.grid.shape:
            return None
        return study.grid.turn.apply(volume.array)
    turned = Turn().apply(volume.array)
    return turned if turned.shape == study.shape else None


def laid_by_headers(volume: MaskVolume, study: CTStudy) -> tuple[np.ndarray, list[str]]:
    """Values (slices, rows, cols), placed by both headers, and notes.

    Raises:
        DataError: more of the mask is outside the study than rounding explains.
    """
    values = volume.values
    affine = turned_affine(volume.affine, volume.turn, volume.array.shape)
    if same_grid(study, values.shape, affine):
        return values, []
    outside = _share_outside(values, affine, study)
    if outside > _MOST_OUTSIDE:
        reason = f"{outside:.0%} of the mask lies outside the scan, as both headers say"
        raise DataError(
            volume.path,
            reason,
            "find the mask of this study, or save it with the header of its scan",
        )
    laid = nearest_voxels(values, affine, study)
    if _is_part(affine, study):
        return laid, []
    sides = " x ".join(f"{side:.3g}" for side in np.linalg.norm(affine[:3, :3], axis=0)[::-1])
    count, rows, cols = values.shape
    grid = f"{count} x {rows} x {cols} voxels of {sides} mm"
    return laid, [f"the mask has another grid ({grid}): nearest voxels taken"]


def _share_outside(values: np.ndarray, affine: np.ndarray, study: CTStudy) -> float:
    """The share of a mask's voxels that are outside the study."""
    points = np.argwhere(values)[:, ::-1]
    if not len(points):
        return 0.0
    to_index = np.linalg.inv(study.affine_lps())
    to_study = to_index @ affine
    found = points @ to_study[:3, :3].T + to_study[:3, 3]
    # If slices are missing, the last one is further up than their number suggests.
    corner = study.position_mm(*(side - 1 for side in study.shape))
    last = to_index[:3, :3] @ corner + to_index[:3, 3]
    half = np.maximum(np.abs(to_study[:3, :3]).sum(axis=1) / 2, 0.5)
    inside = ((found > -half) & (found < last + half)).all(axis=1)
    return 1.0 - float(inside.mean())


def _is_part(affine: np.ndarray, study: CTStudy) -> bool:
    """Whether a grid is that of a study, possibly turned, or cropped to a part of it."""
    to_study = np.linalg.inv(study.affine_lps()) @ affine
    whole = np.rint(to_study)
    off = np.abs(to_study - whole)
    drift = off[:3, :3] @ study.shape[::-1]
    turned = round(abs(np.linalg.det(whole))) == 1
    return bool(turned and drift.max() <= _SAME and off[:3, 3].max() <= _SAME)


def united(values: Sequence[np.ndarray]) -> np.ndarray:
    """Several masks as one, uint16 (slices, rows, cols); numbers of later ones continue."""
    whole = np.zeros(values[0].shape, np.uint16)
    for each in values:
        new = (each > 0) & (whole == 0)
        whole[new] = each[new] + whole.max()
    return whole
