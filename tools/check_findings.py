#!/usr/bin/env python
"""How well a report's findings that need no network agree with the truth of painted studies.

    python tools/check_findings.py --studies 60 --anatomy DIR --out findings.json

Lungs: Dice against the painted lungs, with and without the vessels in them; where fluid or
consolidation was painted only aerated lung counts. Emboli: the true masks are described as if the
network had found them; side and level (central: trunk, main and lobar arteries; segmental: those
beyond) are compared with the arteries they were painted into. Flags: poor opacification and motion
as painted.

    python tools/check_findings.py --faults 16 --anatomy DIR --out faults.json

paints studies of 1 mm slices with gas in stomach and bowel and over the table, every second one
moving, and makes others of them: of thicker slices, of larger voxels, with their ends or sides cut
off, without air, without contrast. It counts the flags, and compares the lungs with the truth.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pe_unified.ct.lungs import VESSEL_MM
from pe_unified.ct.painting.labelmap import LabelMap, list_anatomies, read_label_map
from pe_unified.ct.phantom import STRUCTURES, GasParams, PhantomParams, PhantomStudy, paint_study
from pe_unified.ct.study import CTStudy
from pe_unified.engine.evaluate import write_json
from pe_unified.evaluation.segmentation import dice_and_iou
from pe_unified.inference.lesions import find_lesions
from pe_unified.inference.predictor import SlicePrediction
from pe_unified.inference.quality import check_quality
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import Survey, survey

_CENTRAL = ("trunk", "main", "lobar")
#: Brighter than this is no aerated lung, HU.
_FLUID_HU = -300


@dataclass(frozen=True)
class Checked:
    """One painted study.

    Attributes:
        lung_dice: of the lungs on the search grid and as sharp as may be, against aerated lung with
            and without the vessels in it.
        emboli: (true side, found side, true level, found level) of each.
        undescribed: emboli of which no lesion was left.
        flags: of the report.
        poor_contrast, motion: as painted.
    """

    name: str
    lung_dice: dict[str, float]
    emboli: list[tuple[str, str, str, str]]
    undescribed: int
    flags: list[str]
    poor_contrast: bool
    motion: bool


def check_study(name: str, painted: PhantomStudy) -> Checked:
    """Everything that is found without a network, beside the truth."""
    study = _study(painted.hu, painted.spacing)
    reader = SliceReader(study)
    looked = survey(reader, lungs_from="classical")
    emboli = []
    for embolus in painted.findings:
        predictions = [
            _as_found(k, level == embolus.number) for k, level in enumerate(painted.emboli)
        ]
        lesions = find_lesions(predictions, reader, looked, smallest_ml=0.0)
        if lesions:
            largest = max(lesions, key=lambda lesion: lesion.volume_ml or 0.0)
            side = "both" if embolus.left == embolus.right else "left" if embolus.left else "right"
            level = "central" if embolus.level in _CENTRAL else "segmental"
            emboli.append((side, largest.side, level, largest.level))
    return Checked(
        name,
        _lung_dice(painted, study, looked),
        emboli,
        len(painted.findings) - len(emboli),
        [flag.name for flag in check_quality(reader, looked)],
        painted.plan.qa_contrast,
        painted.plan.qa_motion,
    )


def _lung_dice(painted: PhantomStudy, study: CTStudy, looked: Survey) -> dict[str, float]:
    nothing = np.zeros(painted.hu.shape, bool)
    sharp = [looked.sharp_lungs(k, hu, study.spacing_mm) for k, hu in enumerate(painted.hu)]
    on_grid = nothing
    if looked.lungs is not None:
        on_grid = np.stack([looked.lungs_on(k, study.shape[1:]) for k in range(len(study))])
    lung, with_vessels = _lungs(painted)
    return {
        f"{name}, {vessels}": _dice(true, found)
        for name, found in (("grid", on_grid), ("sharp", np.stack(sharp)))
        for vessels, true in (("with vessels", with_vessels), ("without vessels", lung))
    }


def _as_found(index: int, mask: np.ndarray) -> SlicePrediction:
    pixels = np.flatnonzero(mask).astype(np.int32)
    no_boxes = np.empty((0, 4), np.float32), np.empty(0, np.float32)
    return SlicePrediction(index, 1.0, True, pixels, np.ones(len(pixels), np.float32), *no_boxes)


def _lungs(painted: PhantomStudy) -> tuple[np.ndarray, np.ndarray]:
    """Aerated lung as painted: without vessels, and with those that it encloses."""
    lung = painted.structures == STRUCTURES["lung"]
    smooth = np.stack([cv2.blur(level, (3, 3)) for level in painted.hu])
    lung &= smooth < _FLUID_HU
    size = 2 * round(VESSEL_MM / 2 / painted.spacing[1]) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    closed = [cv2.morphologyEx(level.astype(np.uint8), cv2.MORPH_CLOSE, kernel) for level in lung]
    vessels = np.isin(painted.structures, [STRUCTURES["artery"], STRUCTURES["vein"]])
    return lung, lung | ((np.stack(closed) > 0) & vessels)


def _dice(true: np.ndarray, found: np.ndarray) -> float:
    dice, _ = dice_and_iou((true & found).sum(), found.sum(), true.sum())
    return float(dice)


def summarise(studies: Sequence[Checked]) -> dict[str, dict[str, float | int]]:
    """The figures, by what they are about."""
    emboli = [each for study in studies for each in study.emboli]
    one_sided = [each for each in emboli if each[0] != "both"]
    levels = Counter((each[2], each[3]) for each in emboli)
    summary: dict[str, dict[str, float | int]] = {
        "lungs": {
            "studies": len(studies),
            **{
                f"{which} Dice, {kind}": float(choose([each.lung_dice[kind] for each in studies]))
                for kind in studies[0].lung_dice
                for which, choose in (("mean", np.mean), ("lowest", min))
            },
        },
        "side": {
            "emboli not described": sum(each.undescribed for each in studies),
            "emboli of one side": len(one_sided),
            "right side": sum(each[0] == each[1] for each in one_sided),
            "called midline": sum(each[1] == "midline" for each in one_sided),
            "wrong side": sum(each[1] not in (each[0], "midline") for each in one_sided),
        },
        "level": {
            f"{true}, called {found}": levels[true, found]
            for true in ("central", "segmental")
            for found in ("central", "segmental")
        },
    }
    for flag, painted in (("poor_opacification", "poor_contrast"), ("motion", "motion")):
        told = [(getattr(each, painted), flag in each.flags) for each in studies]
        summary[flag] = {
            "painted": sum(true for true, _ in told),
            "flagged of them": sum(true and found for true, found in told),
            "flagged of the others": sum(found and not true for true, found in told),
        }
    return summary


#: Slices of the studies for ``--faults``, mm: as painted, and of thicker ones made of them.
_FINE_MM, _THICKER_MM = 1.0, (2.5, 5.0, 8.0)
#: Field of view of these studies, mm, and their slices.
_FIELD_MM, _SLICES = 380.0, 270
#: Voxels of the coarse ones, mm.
_VOXELS_MM = (3.0, 4.0, 5.0)
#: Lungs that lost this share of their volume at the sides count as cut; below the other, as whole.
_CUT, _WHOLE = 0.05, 0.005
#: Margins cut off the sides, as shares of the slice.
_MARGINS = (0.0, 0.06, 0.1, 0.14, 0.18, 0.22, 0.26)
#: (flag, kind of study, whether it was painted so, whether it is flagged).
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


def _study(hu: np.ndarray, spacing: Sequence[float]) -> CTStudy:
    step, row, col = spacing
    hu = np.rint(hu).astype(np.int16)
    return CTStudy(
        source=Path("painted"),
        shape=hu.shape,  # type: ignore[arg-type]
        spacing_mm=(row, col, step),
        origin_mm=(0.0, 0.0, 0.0),
        direction=np.eye(3),
        step_mm=(0.0, 0.0, step),
        z_mm=tuple(step * k for k in range(len(hu))),
        read=lambda index: hu[index],
    )


def _flags(hu: np.ndarray, spacing: Sequence[float]) -> tuple[set[str], Survey, CTStudy]:
    study = _study(hu, spacing)
    reader = SliceReader(study)
    looked = survey(reader, lungs_from="classical")
    return {flag.name for flag in check_quality(reader, looked)}, looked, study


def _sharp(hu: np.ndarray, looked: Survey, study: CTStudy) -> np.ndarray:
    return np.stack([looked.sharp_lungs(k, level, study.spacing_mm) for k, level in enumerate(hu)])


def check_faults(
    seed: int, size: int, body: LabelMap | None
) -> tuple[list[Told], dict[str, float]]:
    """Flags of the studies made of one, and the Dice of their lungs by kind of study."""
    rng = np.random.default_rng(seed)
    moving = seed % 2 == 1
    gas = GasParams(rng.uniform(80, 350), int(rng.integers(1, 5)), rng.uniform(4, 20))
    params = PhantomParams(
        motion_rate=float(moving), poor_contrast_rate=0.0, indeterminate_rate=0.0
    )
    pixel = _FIELD_MM / size
    fine = (_FINE_MM, pixel, pixel)
    painted = paint_study(seed, (_SLICES, size, size), fine, body, params=params, gas=gas)
    lung, with_vessels = _lungs(painted)
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
            dice[f"voxels of {pixel:.1f} mm"] = _dice(
                with_vessels, _sharp(painted.hu, looked, study)
            )
    for voxel in _VOXELS_MM:
        target = (voxel,) * 3
        hu, true = (resample(each, fine, target) for each in (painted.hu, with_vessels))
        for margin, kind in ((0.0, "whole"), (0.16, "cropped")):
            cut = round(margin * hu.shape[1])
            view = np.s_[:, cut : hu.shape[1] - cut, cut : hu.shape[2] - cut]
            _, looked, study = _flags(hu[view], target)
            dice[f"voxels of {voxel:g} mm, {kind}"] = _dice(
                true[view] > 0.5, _sharp(np.rint(hu[view]).astype(np.int16), looked, study)
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
    """The sides cut off, as a square and as a round field of view."""
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
    """The figures, by what they are about."""
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


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=20, help="to paint; default 20")
    parser.add_argument(
        "--faults", type=int, metavar="N", help="studies with faults to paint instead"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first study; default 0")
    parser.add_argument("--slices", type=int, default=100, help="of a study; default 100")
    parser.add_argument("--size", type=int, default=256, help="rows and columns; default 256")
    parser.add_argument("--anatomy", type=Path, metavar="DIR", help="label maps to paint on")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the figures")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    console = Console()
    anatomies = list(list_anatomies(args.anatomy).items()) if args.anatomy else [("", None)]
    checked = []
    count = args.faults or args.studies
    for number in track(range(count), "painting and checking", console=console):
        name, path = anatomies[number % len(anatomies)]
        body = None if path is None else read_label_map(path, name)
        seed = args.seed + number
        if args.faults:
            checked.append(check_faults(seed, args.size, body))
            continue
        painted = paint_study(seed, (args.slices, args.size, args.size), anatomy=body)
        checked.append(check_study(f"{name or 'made up'}, seed {seed}", painted))
    summary = summarise_faults(checked) if args.faults else summarise(checked)
    table = Table("", "", "", title="painted studies: found against painted")
    for about, figures in summary.items():
        for name, value in figures.items():
            table.add_row(about, name, f"{value:.3f}" if isinstance(value, float) else str(value))
        table.add_section()
    console.print(table)
    if args.out:
        found: dict[str, Any] = {"summary": summary}
        if not args.faults:
            found["studies"] = [asdict(each) for each in checked]
        write_json(args.out, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
