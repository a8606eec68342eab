#!/usr/bin/env python
"""How well a report's findings that need no network agree with the truth of painted studies.

    python tools/check_findings.py --studies 60 --anatomy DIR --out findings.json

Lungs: Dice against the painted lungs, with and without the vessels in them; where fluid or
consolidation was painted only aerated lung counts. Emboli: the true masks are described as if the
network had found them; side and level (central: trunk, main and lobar arteries; segmental: those
beyond) are compared with the arteries they were painted into. Flags: poor opacification and motion
as painted.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pe_unified.ct.lungs import VESSEL_MM
from pe_unified.ct.painting.labelmap import list_anatomies, read_label_map
from pe_unified.ct.phantom import STRUCTURES, PhantomStudy, paint_study
from pe_unified.ct.study import CTStudy
from pe_unified.evaluation.segmentation import dice_and_iou
from pe_unified.files import write_text
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
    step, row, col = painted.spacing
    study = CTStudy(
        source=Path(name),
        shape=painted.hu.shape,  # type: ignore[arg-type]
        spacing_mm=(row, col, step),
        origin_mm=painted.origin,
        direction=np.eye(3),
        step_mm=(0.0, 0.0, step),
        z_mm=tuple(painted.origin[2] + step * k for k in range(len(painted.hu))),
        read=lambda index: painted.hu[index],
    )
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


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=20, help="to paint; default 20")
    parser.add_argument("--seed", type=int, default=0, help="of the first study; default 0")
    parser.add_argument("--slices", type=int, default=100, help="of a study; default 100")
    parser.add_argument("--size", type=int, default=256, help="rows and columns; default 256")
    parser.add_argument("--anatomy", type=Path, metavar="DIR", help="label maps to paint on")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the figures")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    console = Console()
    try:
        anatomies = list(list_anatomies(args.anatomy).items()) if args.anatomy else [("", None)]
    except FileNotFoundError as error:
        print(f"check_findings: {error}", file=sys.stderr)
        return 2
    studies = []
    for number in track(range(args.studies), "painting and checking", console=console):
        name, path = anatomies[number % len(anatomies)]
        body = None if path is None else read_label_map(path, name)
        seed = args.seed + number
        painted = paint_study(seed, (args.slices, args.size, args.size), anatomy=body)
        studies.append(check_study(f"{name or 'made up'}, seed {seed}", painted))
    summary = summarise(studies)
    table = Table("", "", "", title="painted studies: found against painted")
    for about, figures in summary.items():
        for name, value in figures.items():
            table.add_row(about, name, f"{value:.3f}" if isinstance(value, float) else str(value))
        table.add_section()
    console.print(table)
    if args.out:
        found = {"summary": summary, "studies": [asdict(each) for each in studies]}
        write_text(args.out, json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
