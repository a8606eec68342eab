"""Flags of synthetic studies with faults.

Thick slices, large voxels, ends or sides cut off, no air, no contrast, motion, gas near the lungs.
"""

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np

from pe_unified.benchmarks.painted_truth import aerated_lung, as_study, dice_of, sharp_lungs
from pe_unified.ct.study import CTStudy
from pe_unified.inference.quality import check_quality
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import Survey, survey
from pe_unified.phantom.labelmap import LabelMap
from pe_unified.phantom.study import GasParams, PhantomParams, paint_study

#: Slice thickness, mm: as painted, and of thicker slices made of these.
_FINE_MM, _THICKER_MM = 1.0, (2.5, 5.0, 8.0)
#: Field of view of these studies, mm, and their number of slices.
_FIELD_MM, _SLICES = 380.0, 270
#: Voxel sizes of the coarse studies, mm.
_VOXELS_MM = (3.0, 4.0, 5.0)
#: Lungs count as cut from the first share of volume lost at the sides, as whole up to the second.
_CUT, _WHOLE = 0.05, 0.005
#: Margins cut off the sides, as shares of the slice.
_MARGINS = (0.0, 0.06, 0.1, 0.14, 0.18, 0.22, 0.26)
#: (flag, kind of study, whether it has the fault, whether it is flagged).
Told = tuple[str, str, bool, bool]


def resample(volume: np.ndarray, spacing: Sequence[float], target: Sequence[float]) -> np.ndarray:
    """Means over larger voxels: float32; spacings are (slice, row, col), mm."""
    step, row, col = (float(new / old) for new, old in zip(target, spacing))
    edges = np.arange(int(len(volume) / step + 1e-6) + 1) * step
    below = np.minimum(edges.astype(int), len(volume) - 1)
    summed = np.zeros((len(volume) + 1, *volume.shape[1:]), np.float32)
    np.cumsum(volume, axis=0, dtype=np.float32, out=summed[1:])
    part = (edges - below)[:, None, None].astype(np.float32)
    upto = summed[below] * (1 - part) + summed[below + 1] * part
    size = round(volume.shape[2] / col), round(volume.shape[1] / row)
    means = np.diff(upto, axis=0) / np.float32(step)
    return np.stack([cv2.resize(level, size, interpolation=cv2.INTER_AREA) for level in means])


def _flags(hu: np.ndarray, spacing: Sequence[float]) -> tuple[set[str], Survey, CTStudy]:
    study = as_study(hu, spacing)
    reader = SliceReader(study)
    looked = survey(reader, lungs_from="classical")
    return {flag.name for flag in check_quality(reader, looked)}, looked, study


def check_faults(
    seed: int, size: int, body: LabelMap | None
) -> tuple[list[Told], dict[str, float]]:
    """Flags of the studies made of one study, and the Dice of their lungs by kind of study."""
    rng = np.random.default_rng(seed)
    moving = seed % 2 == 1
    gas = GasParams(rng.uniform(80, 350), int(rng.integers(1, 5)), rng.uniform(4, 20))
    params = PhantomParams(
        motion_rate=float(moving), poor_contrast_rate=0.0, indeterminate_rate=0.0
    )
    pixel = _FIELD_MM / size
    fine = (_FINE_MM, pixel, pixel)
    painted = paint_study(seed, (_SLICES, size, size), fine, body, params=params, gas=gas)
    lung, with_vessels = aerated_lung(painted)
    told: list[Told] = []
    dice: dict[str, float] = {}

    def tell(flag: str, kind: str, true: bool, flags: set[str]) -> None:
        told.append((flag, kind, true, flag in flags))

    for thick in (_FINE_MM, *_THICKER_MM):
        hu = resample(painted.hu, fine, (thick, pixel, pixel))
        flags, looked, study = _flags(hu, (thick, pixel, pixel))
        tell("motion", f"slices of {thick:g} mm", moving, flags)
        told.append(
            ("motion_not_judged", f"slices of {thick:g} mm", False, "motion_not_judged" in flags)
        )
        if thick == _FINE_MM:
            tell("no_lungs", "", False, flags)
            tell("no_mediastinum", "", False, flags)
            tell("no_contrast", "", False, flags)
            tell("poor_opacification", "", False, flags)
            dice[f"voxels of {pixel:.1f} mm"] = dice_of(
                with_vessels, sharp_lungs(painted.hu, looked, study)
            )
    for voxel in _VOXELS_MM:
        target = (voxel,) * 3
        hu, true = (resample(each, fine, target) for each in (painted.hu, with_vessels))
        for margin, kind in ((0.0, "whole"), (0.16, "cropped")):
            cut = round(margin * hu.shape[1])
            view = np.s_[:, cut : hu.shape[1] - cut, cut : hu.shape[2] - cut]
            _, looked, study = _flags(hu[view], target)
            dice[f"voxels of {voxel:g} mm, {kind}"] = dice_of(
                true[view] > 0.5, sharp_lungs(np.rint(hu[view]).astype(np.int16), looked, study)
            )
    spacing = (3.0,) * 3
    hu, true = (resample(each, fine, spacing) for each in (painted.hu, lung))
    told += _cut_sides(hu, true, spacing)
    levels = np.flatnonzero((true > 0.5).any(axis=(1, 2)))
    low, high = (round(levels[0] + part * np.ptp(levels)) for part in (0.35, 0.65))
    for flag, part in (("truncated_bases", hu[low:]), ("truncated_apices", hu[:high])):
        tell(flag, "", False, _flags(hu, spacing)[0])
        tell(flag, "", True, _flags(part, spacing)[0])
    airless = np.where(
        (hu < -300) & (resample(painted.structures > 0, fine, spacing) > 0.2), 40, hu
    )
    tell("no_lungs", "", True, _flags(airless, spacing)[0])
    for flag, blood in (("no_contrast", (40.0, 60.0)), ("poor_opacification", (140.0, 180.0))):
        params = PhantomParams(motion_rate=0.0, poor_contrast_rate=1.0, poor_artery_hu_range=blood)
        other = paint_study(seed, (60, 128, 128), anatomy=body, params=params)
        tell(flag, "", True, _flags(other.hu, other.spacing)[0])
    return told, dice


def _cut_sides(hu: np.ndarray, lung: np.ndarray, spacing: Sequence[float]) -> list[Told]:
    """Flags with the sides cut off, by a square and by a round field of view."""
    told: list[Told] = []
    whole = np.count_nonzero(lung > 0.5)
    size = hu.shape[1]
    for margin in _MARGINS:
        cut = round(margin * size)
        view = np.s_[:, cut : size - cut, cut : size - cut]
        down, across = np.ogrid[: size - 2 * cut, : size - 2 * cut]
        middle = size / 2 - cut
        beyond = np.hypot(down + 0.5 - middle, across + 0.5 - middle) > middle
        for kind, outside in (("square", np.zeros_like(beyond)), ("round", beyond)):
            lost = 1 - np.count_nonzero(lung[view][:, ~outside] > 0.5) / whole
            if _WHOLE < lost < _CUT:
                continue
            seen = np.where(outside, np.float32(-1024), hu[view])
            found = "truncated_lungs" in _flags(seen, spacing)[0]
            told.append(("truncated_lungs", f"{kind} field of view", bool(lost >= _CUT), found))
    return told


def summarise_faults(
    checked: Sequence[tuple[list[Told], dict[str, float]]],
) -> dict[str, dict[str, float | int]]:
    """The results, by subject."""
    summary: dict[str, dict[str, float | int]] = {}
    for kind in checked[0][1]:
        values = [dice[kind] for _, dice in checked]
        summary[f"lungs beside gas, {kind}"] = {
            "mean Dice": float(np.mean(values)),
            "lowest Dice": min(values),
        }
    counts = Counter(each for told, _ in checked for each in told)
    for flag, kind in dict.fromkeys((flag, kind) for flag, kind, _, _ in counts):
        summary[", ".join(filter(None, (flag, kind)))] = {
            "painted": counts[flag, kind, True, True] + counts[flag, kind, True, False],
            "flagged of them": counts[flag, kind, True, True],
            "others": counts[flag, kind, False, True] + counts[flag, kind, False, False],
            "flagged of the others": counts[flag, kind, False, True],
        }
    return summary
