"""From stored volumes to patches or whole volumes, and to the input of a volume model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from scipy import ndimage

from pe_unified.ct.hu import HU_MIN
from pe_unified.datasets.volume_sample import PEVolumeSample
from pe_unified.datasets.volume_store import ARTERY, EMBOLUS
from pe_unified.registry import TRANSFORMS

_META = ("patient_id", "group", "study_uid", "img_path", "grid", "starts")
_HALF = 0.5


@dataclass(frozen=True)
class VolumeGeometry:
    """Random rotation, mirroring and scaling of patches, the same for image and labels.

    Attributes:
        rotate: largest angle about each axis, degrees.
        quarter_turns: also rotate by 0 to 3 quarter turns about each axis.
        flip: probability of mirroring along each axis.
        scale: smallest and largest magnification.
    """

    rotate: float = 30.0
    quarter_turns: bool = True
    flip: float = 0.5
    scale: tuple[float, float] = (0.8, 1.2)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """3 x 3: from offsets to the middle of a patch to offsets in the volume."""
        matrix = np.eye(3)
        for axis in range(3):
            quarters = int(rng.integers(4)) if self.quarter_turns else 0
            angle = math.radians(rng.uniform(-self.rotate, self.rotate)) + quarters * math.pi / 2
            matrix = matrix @ _turn(axis, angle)
        mirror = np.where(rng.random(3) < self.flip, -1.0, 1.0)
        return matrix @ np.diag(mirror) / rng.uniform(*self.scale)


def _turn(axis: int, angle: float) -> np.ndarray:
    """3 x 3 rotation about an axis."""
    one, other = (each for each in range(3) if each != axis)
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = math.cos(angle)
    matrix[one, other], matrix[other, one] = -math.sin(angle), math.sin(angle)
    return matrix


@dataclass(frozen=True, eq=False)
class Crops:
    """The possible crops of a volume.

    Attributes:
        starts: int64 (n, 3), first voxel of each; outside the volume if that is smaller.
        positive: bool (n,), whether the crop shows an embolus.
    """

    starts: np.ndarray
    positive: np.ndarray

    def draw(self, rng: np.random.Generator, count: int, positive_share: float) -> np.ndarray:
        """Draw crops, (count, 3); those with embolus have ``positive_share`` of the weight."""
        weights = np.full(len(self.starts), 1 / len(self.starts))
        if self.positive.any() and not self.positive.all():
            shares = np.where(self.positive, positive_share, 1 - positive_share)
            weights = shares / np.where(self.positive, self.positive.sum(), (~self.positive).sum())
        again = count > np.count_nonzero(weights)
        return self.starts[rng.choice(len(weights), count, replace=again, p=weights)]


def crops_of(labels: np.ndarray, size: int) -> Crops:
    """A grid of crops over a volume, and one around the middle of each embolus.

    Args:
        labels: uint8 (levels, rows, cols).
        size: side of a crop, voxels.
    """
    sides = np.array(labels.shape)
    evenly = [_starts(side, size) for side in sides]
    grid = np.stack(np.meshgrid(*evenly, indexing="ij"), axis=-1).reshape(-1, 3)
    embolus = np.asarray(labels) & EMBOLUS > 0
    boxes = ndimage.find_objects(ndimage.label(embolus, np.ones((3, 3, 3)))[0])
    middles = [[(side.start + side.stop) // 2 for side in box] for box in boxes]
    around = np.array(middles, dtype=np.int64).reshape(-1, 3) - size // 2
    inside = np.clip(around, 0, np.maximum(0, sides - size))
    around = np.where(sides > size, inside, (sides - size) // 2)
    starts = np.concatenate([grid, around])
    shown = [embolus[_span(start, size)].any() for start in starts]
    return Crops(starts, np.array(shown, dtype=bool))


def _starts(side: int, size: int) -> np.ndarray:
    """Starts of the fewest evenly spaced crops that cover a side; a short side has one, centred."""
    if side <= size:
        return np.array([(side - size) // 2])
    return np.rint(np.linspace(0, side - size, math.ceil(side / size))).astype(np.int64)


def _span(start: np.ndarray, size: int) -> tuple[slice, ...]:
    return tuple(slice(max(0, at), max(0, at + size)) for at in start.tolist())


def sample_patch(
    channels: Sequence[np.ndarray],
    fill: Sequence[float],
    middle: np.ndarray,
    matrix: np.ndarray,
    size: int,
) -> np.ndarray:
    """A patch of a volume, by linear interpolation; reads only the part that it covers.

    Args:
        channels: (levels, rows, cols) each, indexed like arrays.
        fill: value outside the volume, for every channel.
        middle: voxel coordinates of the middle of the patch, (3,).
        matrix: 3 x 3, from offsets to the middle in the patch to offsets in the volume.
        size: voxels along each axis.

    Returns:
        float32 (channels, size, size, size).
    """
    sides = np.array(channels[0].shape)
    reach = np.abs(matrix).sum(axis=1) * (size - 1) / 2
    first = np.clip(np.floor(middle - reach), 0, sides - 1).astype(int)
    last = np.clip(np.ceil(middle + reach), first, sides - 1).astype(int)
    box = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
    part = np.stack([each[box].astype(np.float32) - base for each, base in zip(channels, fill)])
    away = torch.arange(size) - (size - 1) / 2
    points = torch.stack(torch.meshgrid(away, away, away, indexing="ij"), dim=-1).double()
    points = points @ torch.from_numpy(matrix).T + torch.from_numpy(middle - first)
    # For torch, -1 is the first voxel and 1 the last, and the last axis comes first.
    spans = torch.tensor(part.shape[1:]).double()
    places = torch.where(spans > 1, 2 * points / (spans - 1).clamp(min=1) - 1, 2 * points)
    found = F.grid_sample(
        torch.from_numpy(part)[None], places.flip(-1).float()[None], align_corners=True
    )[0]
    return found.numpy() + np.array(fill, dtype=np.float32)[:, None, None, None]


@TRANSFORMS.register_module()
class LoadVolumePatches(BaseTransform):
    """Patches of a volume and of its labels.

    Adds ``hu``: int16 (patches, levels, rows, cols), Hounsfield units; ``lesion`` and ``artery``:
    uint8 likewise, None where unknown; ``starts``.

    Args:
        size: voxels along each axis.
        count: patches per study.
        positive_share: share of the sampling weight of crops with an embolus.
        geometry: settings of :class:`VolumeGeometry`; None for no rotation or scaling.
    """

    def __init__(
        self,
        size: int = 96,
        count: int = 2,
        positive_share: float = 0.75,
        geometry: Mapping[str, Any] | None = None,
    ) -> None:
        if not 0 < positive_share < 1:
            raise ValueError(f"positive_share lies in (0, 1), got {positive_share}")
        self.size, self.count, self.positive_share = size, count, positive_share
        self.geometry = None if geometry is None else VolumeGeometry(**geometry)
        #: Cached by study: finding the crops takes longer than loading a patch.
        self._crops: dict[tuple[str, str], Crops] = {}

    def transform(self, results: dict) -> dict:
        store, record, rng = results["store"], results["record"], results["rng"]
        hu, labels = store.hu(record), store.labels(record)
        key = results["patient_id"], results["study_uid"]
        if key not in self._crops:
            self._crops[key] = crops_of(labels, self.size)
        starts = self._crops[key].draw(rng, self.count, self.positive_share)
        patches = []
        for start in starts:
            matrix = np.eye(3) if self.geometry is None else self.geometry.draw(rng)
            middle = start + (self.size - 1) / 2
            channels = [hu, _Bit(labels, EMBOLUS), _Bit(labels, ARTERY)]
            patches.append(sample_patch(channels, (HU_MIN, 0, 0), middle, matrix, self.size))
        stack = np.stack(patches)
        results["hu"] = np.rint(stack[:, 0]).astype(np.int16)
        masks = (stack[:, 1:] >= _HALF).astype(np.uint8)
        _add_labels(results, masks[:, 0], masks[:, 1])
        results["starts"] = starts
        return results


@dataclass(frozen=True, eq=False)
class _Bit:
    """One bit of the stored labels, read when indexed."""

    labels: np.ndarray
    bit: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.labels.shape

    def __getitem__(self, box: Any) -> np.ndarray:
        return (self.labels[box] & self.bit) > 0


@TRANSFORMS.register_module()
class LoadVolume(BaseTransform):
    """A whole volume with its labels, and the lesions in the study's own voxels.

    Adds ``hu``, ``lesion`` and ``artery`` like :class:`LoadVolumePatches`, with one patch;
    ``lesions``: :class:`~pe_unified.datasets.volume_records.LesionMap`, None where unknown; and
    ``grid``.
    """

    def transform(self, results: dict) -> dict:
        store, record = results["store"], results["record"]
        labels = np.asarray(store.labels(record))[None]
        results["hu"] = np.array(store.hu(record))[None]
        results["grid"] = store.grid(record)
        _add_labels(results, (labels & EMBOLUS > 0), (labels & ARTERY > 0))
        results["lesions"] = record.lesions() if record.masks_known else None
        return results


def _add_labels(results: dict, lesion: np.ndarray, artery: np.ndarray) -> None:
    known = results["record"].masks_known
    results["lesion"] = lesion.astype(np.uint8) if known else None
    has_arteries = results["store"].arteries_of(results["record"]) is not None
    results["artery"] = artery.astype(np.uint8) if has_arteries else None


@TRANSFORMS.register_module()
class PackVolumeInputs(BaseTransform):
    """Pack ``{"inputs": int16 (patches, levels, rows, cols), "data_samples": PEVolumeSample}``."""

    def transform(self, results: dict) -> dict:
        sample = PEVolumeSample(metainfo={key: results[key] for key in _META if key in results})
        for name in ("lesion", "artery"):
            if results.get(name) is not None:
                sample.set_field(torch.from_numpy(results[name]), f"gt_{name}")
        if results.get("lesions") is not None:
            sample.set_field(results["lesions"], "gt_lesions")
        return {"inputs": torch.from_numpy(results["hu"]), "data_samples": sample}
