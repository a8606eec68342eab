"""Findings that need no network, compared with the truth of their synthetic study."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pe_unified.ct.lungs import VESSEL_MM
from pe_unified.ct.study import CTStudy
from pe_unified.evaluation.segmentation import dice_and_iou
from pe_unified.inference.lesions import find_lesions
from pe_unified.inference.quality import check_quality
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.slice_prediction import SlicePrediction
from pe_unified.inference.survey import Survey, survey
from pe_unified.phantom.study import STRUCTURES, PhantomStudy

_CENTRAL = ("trunk", "main", "lobar")
#: Anything brighter is not aerated lung, HU.
_FLUID_HU = -300


@dataclass(frozen=True)
class Checked:
    """Results of one synthetic study.

    Attributes:
        lung_dice: Dice of the lungs on the search grid and as sharp as the pixels allow, against
            aerated lung with and without the vessels in it.
        emboli: (true side, found side, true level, found level) of each.
        undescribed: number of emboli without a lesion.
        boxes: for the box around each embolus, whether it can hold a clot, and whether the same box
            can when it is moved to aerated lung in the same slice (None: the slice has none).
        flags: flags of the report.
        poor_contrast, motion: as painted.
    """

    name: str
    lung_dice: dict[str, float]
    emboli: list[tuple[str, str, str, str]]
    undescribed: int
    boxes: list[tuple[bool, bool | None]]
    flags: list[str]
    poor_contrast: bool
    motion: bool


def check_study(name: str, painted: PhantomStudy) -> Checked:
    """Everything that is found without a network, compared with the truth."""
    study = as_study(painted.hu, painted.spacing)
    reader = SliceReader(study)
    looked = survey(reader, lungs_from="classical")
    aerated, _ = aerated_lung(painted)
    rng = np.random.default_rng(painted.plan.seed)
    emboli, boxes = [], []
    for embolus in painted.findings:
        boxes.append(_box_rule(painted.emboli == embolus.number, aerated, reader, looked, rng))
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
        boxes,
        [flag.name for flag in check_quality(reader, looked)],
        painted.plan.qa_contrast,
        painted.plan.qa_motion,
    )


def _box_rule(
    embolus: np.ndarray,
    aerated: np.ndarray,
    reader: SliceReader,
    looked: Survey,
    rng: np.random.Generator,
) -> tuple[bool, bool | None]:
    """See :attr:`Checked.boxes`; both masks: bool (slices, rows, cols)."""
    index = int(embolus.sum((1, 2)).argmax())
    rows, cols = (np.flatnonzero(embolus[index].any(axis)) for axis in (1, 0))
    box = np.array([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1], np.float32)
    lung = np.argwhere(aerated[index])
    if not len(lung):
        return _can_be_clot(index, box, reader, looked), None
    row, col = lung[rng.integers(len(lung))]
    away = np.tile((col - int(box[[0, 2]].mean()), row - int(box[[1, 3]].mean())), 2)
    return (
        _can_be_clot(index, box, reader, looked),
        _can_be_clot(index, box + away.astype(np.float32), reader, looked),
    )


def _can_be_clot(index: int, box: np.ndarray, reader: SliceReader, looked: Survey) -> bool:
    no_pixels = np.empty(0, np.int32), np.empty(0, np.float32)
    found = SlicePrediction(index, 1.0, True, *no_pixels, box[None], np.ones(1, np.float32))
    return any(each.can_be_clot for each in find_lesions([found], reader, looked, smallest_ml=0.0))


def _lung_dice(painted: PhantomStudy, study: CTStudy, looked: Survey) -> dict[str, float]:
    nothing = np.zeros(painted.hu.shape, bool)
    sharp = sharp_lungs(painted.hu, looked, study)
    on_grid = nothing
    if looked.lungs is not None:
        on_grid = np.stack([looked.lungs_on(k, study.shape[1:]) for k in range(len(study))])
    lung, with_vessels = aerated_lung(painted)
    return {
        f"{name}, {vessels}": dice_of(true, found)
        for name, found in (("grid", on_grid), ("sharp", sharp))
        for vessels, true in (("with vessels", with_vessels), ("without vessels", lung))
    }


def as_study(hu: np.ndarray, spacing: Sequence[float]) -> CTStudy:
    """Hounsfield units (slices, rows, cols) as a study; ``spacing``: (slice, row, col), mm."""
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


def sharp_lungs(hu: np.ndarray, looked: Survey, study: CTStudy) -> np.ndarray:
    """The lungs as sharp as the pixels allow: bool, as ``hu`` (slices, rows, cols)."""
    return np.stack([looked.sharp_lungs(k, level, study.spacing_mm) for k, level in enumerate(hu)])


def _as_found(index: int, mask: np.ndarray) -> SlicePrediction:
    pixels = np.flatnonzero(mask).astype(np.int32)
    no_boxes = np.empty((0, 4), np.float32), np.empty(0, np.float32)
    return SlicePrediction(index, 1.0, True, pixels, np.ones(len(pixels), np.float32), *no_boxes)


def aerated_lung(painted: PhantomStudy) -> tuple[np.ndarray, np.ndarray]:
    """Aerated lung as painted: without vessels, and with those that it encloses."""
    lung = painted.structures == STRUCTURES["lung"]
    smooth = np.stack([cv2.blur(level, (3, 3)) for level in painted.hu])
    lung &= smooth < _FLUID_HU
    size = 2 * round(VESSEL_MM / 2 / painted.spacing[1]) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    closed = [cv2.morphologyEx(level.astype(np.uint8), cv2.MORPH_CLOSE, kernel) for level in lung]
    vessels = np.isin(painted.structures, [STRUCTURES["artery"], STRUCTURES["vein"]])
    return lung, lung | ((np.stack(closed) > 0) & vessels)


def dice_of(true: np.ndarray, found: np.ndarray) -> float:
    """Dice of two masks of one shape."""
    dice, _ = dice_and_iou((true & found).sum(), found.sum(), true.sum())
    return float(dice)


def summarise(studies: Sequence[Checked]) -> dict[str, dict[str, float | int]]:
    """The results, by subject."""
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
    moved = [lung for each in studies for _, lung in each.boxes if lung is not None]
    summary["boxes"] = {
        "around an embolus": sum(len(each.boxes) for each in studies),
        "cannot hold a clot by the rule": sum(not own for each in studies for own, _ in each.boxes),
        "moved to lung": len(moved),
        "cannot hold a clot there": sum(not lung for lung in moved),
    }
    for flag, painted in (("poor_opacification", "poor_contrast"), ("motion", "motion")):
        told = [(getattr(each, painted), flag in each.flags) for each in studies]
        summary[flag] = {
            "painted": sum(true for true, _ in told),
            "flagged of them": sum(true and found for true, found in told),
            "flagged of the others": sum(found and not true for true, found in told),
        }
    return summary
