"""The baseline that a network must beat on synthetic studies: a band of HU in the true vessels.

The true vessels of a patient are unknown; given them, a threshold is as good as it can be.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import mannwhitneyu

from pe_unified.ct.hu import decode_hu, encode_hu, read_slice_png
from pe_unified.errors import DataError
from pe_unified.phantom.study import STRUCTURES

#: Regions in which the band is applied.
REGIONS = {"vessels": ("artery", "vein"), "arteries": ("artery",)}


@dataclass(frozen=True)
class RegionVoxels:
    """The voxels of one study's region.

    Attributes:
        hu: integers (voxels,).
        embolus: bool (voxels,).
        slice: int (voxels,), the slice of each voxel.
        positive: bool (slices,), whether the slice shows an embolus.
    """

    hu: np.ndarray
    embolus: np.ndarray
    slice: np.ndarray
    positive: np.ndarray


@dataclass(frozen=True)
class Band:
    """Low <= HU < high, and its pooled Dice on the voxels used to choose it."""

    low: int
    high: int
    dice: float

    def holds(self, hu: np.ndarray) -> np.ndarray:
        return (hu >= self.low) & (hu < self.high)


def region_voxels(
    hu: np.ndarray, structures: np.ndarray, emboli: np.ndarray, region: str, median: bool = False
) -> RegionVoxels:
    """Extract a region's voxels from a study.

    Args:
        hu: (slices, rows, cols), HU.
        structures: same shape, values of ``STRUCTURES``.
        emboli: same shape, above 0 where there is one.
        region: a key of :data:`REGIONS`.
        median: smooth the HU by a 3 x 3 median in each slice first.
    """
    inside = np.isin(structures, [STRUCTURES[name] for name in REGIONS[region]])
    if median:
        hu = np.stack([decode_hu(cv2.medianBlur(encode_hu(plane), 3)) for plane in hu])
    return RegionVoxels(
        hu[inside], emboli[inside] > 0, np.nonzero(inside)[0], np.any(emboli > 0, axis=(1, 2))
    )


def best_band(studies: Iterable[RegionVoxels]) -> Band:
    """The band with the best pooled Dice with the emboli, of all possible bands."""
    studies = list(studies)
    hu = np.concatenate([study.hu for study in studies]).astype(np.int64)
    embolus = np.concatenate([study.embolus for study in studies])
    least = int(hu.min())
    values = hu - least
    count = int(values.max()) + 1
    below = np.concatenate([[0], np.bincount(values, minlength=count).cumsum()])
    found = np.concatenate([[0], np.bincount(values[embolus], minlength=count).cumsum()])
    best = Band(least, least + count, 0.0)
    for low in range(count):
        dice = 2 * (found[low:] - found[low]) / (below[low:] - below[low] + found[-1])
        high = int(dice.argmax())
        if dice[high] > best.dice:
            best = Band(least + low, least + low + high, float(dice[high]))
    return best


def pooled_dice(band: Band, studies: Iterable[RegionVoxels]) -> float:
    """Dice of a band with the emboli, over the voxels of all studies together."""
    common = total = 0
    for study in studies:
        inside = band.holds(study.hu)
        common += int((inside & study.embolus).sum())
        total += int(inside.sum()) + int(study.embolus.sum())
    return 2 * common / total


def slice_auc(band: Band, studies: Iterable[RegionVoxels]) -> float:
    """AUC of the number of voxels in the band, for whether a slice shows an embolus."""
    scores, labels = [], []
    for study in studies:
        inside = study.slice[band.holds(study.hu)]
        scores.append(np.bincount(inside, minlength=len(study.positive)))
        labels.append(study.positive)
    score, label = np.concatenate(scores), np.concatenate(labels).astype(bool)
    wins = mannwhitneyu(score[label], score[~label]).statistic
    return float(wins / (label.sum() * (~label).sum()))


def read_studies(
    converted: Path, splits: Sequence[str], truths: Sequence[Path]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """HU, structures and emboli, each (slices, rows, cols), of every patient in some splits.

    Args:
        converted: folder of a converted set.
        truths: folders with ``<patient>.npz``, as ``pe-unified phantom --truth`` writes them.

    Raises:
        DataError: a patient has no truth.
    """
    slices: dict[str, list[tuple[int, str]]] = {}
    for split in splits:
        path = converted / "annotations" / f"{split}.json"
        for image in json.loads(path.read_text(encoding="utf-8"))["images"]:
            own = slices.setdefault(image["patient_id"], [])
            own.append((image["slice_index"], image["file_name"]))
    for patient, own in sorted(slices.items()):
        found = [folder / f"{patient}.npz" for folder in truths]
        found = [path for path in found if path.is_file()]
        if not found:
            cure = "paint the set with --truth, and name every layout's truth folder"
            raise DataError(patient, f"no {patient}.npz in {', '.join(map(str, truths))}", cure)
        hu = np.stack([read_slice_png(converted / name) for _, name in sorted(own)])
        with np.load(found[0]) as truth:
            yield hu, truth["structures"], truth["emboli"]
