"""Quality checks of a study: whether and why the model should abstain."""

from dataclasses import dataclass

import cv2
import numpy as np

from pe_unified.ct.body import enclosed, field_of_view, shrunk
from pe_unified.ct.study import CTStudy
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import Survey

#: Blood in the mediastinum below this has no contrast, HU.
NO_CONTRAST_HU = 110.0
#: Below this emboli are hardly visible, HU; suboptimal also in Bayraktaroglu et al. 2020,
#: https://doi.org/10.5812/iranjradiol.97230.
POOR_CONTRAST_HU = 200.0
#: Lungs with at least this share of their largest cross-section at an end are truncated there.
TRUNCATED_SHARE = 0.5
#: Lungs are cut at the sides if this share of their outline is the rim of the field of view: they
#: have lost at least a twentieth of their volume. A chest that only touches the rim is below.
CUT_SHARE = 0.1
#: In thicker slices, segmental emboli are averaged away, mm.
THICK_MM = 3.0
#: If more than this share of the study's slices is missing, the model abstains.
MISSING_SHARE = 0.03
#: A lung border with less than this share of the study's usual steepness is blurred.
BLURRED = 0.85
#: At least this share of blurred slices counts as strong motion.
MOTION_SHARE = 0.1
#: Distance between slices that are checked for motion, mm.
_MOTION_STEP_MM = 5.0
#: Borders count for motion if their change along the body is less than this share of their change
#: within a slice: over 5 mm of thickness they move by 1.5 mm at most.
_UPRIGHT = 0.3
#: Shorter borders than this give no information on motion, mm.
_SHORTEST_BORDER_MM = 100.0
#: Attenuation on both sides of the border of a lung, HU.
_BORDER_HU = (-900, 50)
#: Half the width of the analysed mediastinum, mm.
_MEDIASTINUM_MM = 45.0
#: Range of blood, excluding fat and undiluted contrast, HU.
_BLOOD_HU = (-50, 650)
#: Larger pixels blur the borders of lungs more than breathing, mm.
COARSE_MM = 2.5
#: Range of heart and great vessels within the lungs, from the lowest slice (0) to the highest (1).
_HEART_LEVELS = (0.3, 0.75)


@dataclass(frozen=True)
class Flag:
    """A property of the study that a reader of the report must know.

    Attributes:
        name: identifier for programs.
        abstain: whether the scores are unreliable.
        reason: description for readers.
        value, limit: the measured value and the limit of the flag; None if there is no number.
        unit: unit of both.
    """

    name: str
    abstain: bool
    reason: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""


def check_quality(reader: SliceReader, survey: Survey) -> list[Flag]:
    """All flags of a study; none for a CT pulmonary angiogram without faults.

    The limits on contrast, truncation and motion are defined in this module; those of motion were
    set on synthetic studies.
    """
    study = reader.study
    flags = [*_geometry_flags(study)]
    if survey.lungs is None:
        reason = "no lungs were found: not a chest CT, or neither lung contains air"
        return [Flag("no_lungs", True, reason), *flags]
    flags = [*_truncation_flags(survey), *_motion_flags(reader, survey), *flags]
    return [*_contrast_flags(survey), *flags]


def blood_hu(survey: Survey) -> float | None:
    """Attenuation of blood in heart and great vessels, HU; None if no mediastinum is visible.

    The median of the brightest third of the tissue between the lungs in front of their middle, at
    the levels of the heart and the pulmonary trunk. Fat and air are darker than blood, undiluted
    contrast in the superior vena cava is brighter.
    """
    assert survey.lungs is not None
    levels = np.flatnonzero(survey.lungs.any(axis=(1, 2)))
    low, high = (round(levels[0] + share * (levels[-1] - levels[0])) for share in _HEART_LEVELS)
    middle = survey.middle / survey.cell[2]
    half = _MEDIASTINUM_MM / survey.cell_mm[1]
    left, right = max(0, round(middle - half)), round(middle + half) + 1
    values = []
    for level in range(low, high + 1):
        rows = np.flatnonzero(survey.lungs[level].any(axis=1))
        if len(rows) < 4:
            continue
        front = slice(rows[0] + 2, (rows[0] + rows[-1]) // 2 + 1)
        inside = survey.body[level] & ~survey.lungs[level]
        values.append(survey.hu[level][front, left:right][inside[front, left:right]])
    found = np.concatenate(values) if values else np.empty(0)
    found = found[(found > _BLOOD_HU[0]) & (found < _BLOOD_HU[1])]
    if len(found) < 50:
        return None
    return float(np.median(found[found >= np.quantile(found, 2 / 3)]))


def _contrast_flags(survey: Survey) -> list[Flag]:
    value = blood_hu(survey)
    if value is None:
        return [Flag("no_mediastinum", True, "no mediastinum was found between the lungs")]
    if value < NO_CONTRAST_HU:
        reason = "no contrast in heart and great vessels: not a CT pulmonary angiogram"
        return [Flag("no_contrast", True, reason, value, NO_CONTRAST_HU, "HU")]
    if value < POOR_CONTRAST_HU:
        reason = "poor opacification of heart and great vessels"
        return [Flag("poor_opacification", True, reason, value, POOR_CONTRAST_HU, "HU")]
    return []


def _truncation_flags(survey: Survey) -> list[Flag]:
    assert survey.lungs is not None
    areas = survey.lungs.sum(axis=(1, 2))
    flags = []
    for name, level, end in (("bases", 0, "lower"), ("apices", -1, "upper")):
        share = float(areas[level] / areas.max())
        if share >= TRUNCATED_SHARE:
            reason = f"the lungs extend beyond the {end} end of the scan"
            flags.append(Flag(f"truncated_{name}", True, reason, share, TRUNCATED_SHARE))
    share = cut_share(survey)
    if share >= CUT_SHARE:
        reason = "the field of view cuts off the lungs at the sides"
        flags.append(Flag("truncated_lungs", True, reason, share, CUT_SHARE))
    return flags


def cut_share(survey: Survey) -> float:
    """Share of the lungs' outline in their slices that is the rim of the field of view."""
    assert survey.lungs is not None
    field = field_of_view(survey.hu)
    whole = np.stack([enclosed(level) for level in survey.lungs])
    outline = whole & ~np.stack([shrunk(level) for level in whole])
    return float(np.mean(~shrunk(field)[np.nonzero(outline)[1:]]))


def sharpness(hu: np.ndarray, border: np.ndarray, pixel_mm: float) -> float | None:
    """The steepness of a border in a slice, HU per mm; None if it is too short.

    The lower quartile, over the pixels of the border, of the steepest change nearby: motion blurs
    the parts of a border across its direction.

    Args:
        hu: int16 (rows, cols).
        border: bool (rows, cols).
        pixel_mm: mean distance between pixels.
    """
    if border.sum() * pixel_mm < _SHORTEST_BORDER_MM:
        return None
    tissue = np.clip(hu, *_BORDER_HU).astype(np.float32)
    tissue = cv2.GaussianBlur(tissue, (0, 0), 0.7 / pixel_mm)
    dx = cv2.Sobel(tissue, cv2.CV_32F, 1, 0) / (8 * pixel_mm)
    dy = cv2.Sobel(tissue, cv2.CV_32F, 0, 1) / (8 * pixel_mm)
    steep = cv2.magnitude(dx, dy)
    width = 2 * round(4.0 / pixel_mm) + 1
    steepest = cv2.dilate(steep, np.ones((width, width), np.uint8))
    return float(np.quantile(steepest[border], 0.25))


def upright(survey: Survey) -> np.ndarray:
    """Borders between lung and tissue without a slope from slice to slice: bool.

    Sloping borders, at apices and bases, are blurred by the slice thickness alone. On the search
    grid, (levels, rows, cols).
    """
    tissue = np.clip(survey.hu, *_BORDER_HU).astype(np.float32)
    tissue = np.stack([cv2.GaussianBlur(level, (0, 0), 0.7) for level in tissue])
    if len(tissue) < 2:
        return np.zeros(tissue.shape, dtype=bool)
    row_mm, col_mm, step_mm = survey.cell_mm
    rise, down, across = np.gradient(tissue, step_mm, row_mm, col_mm)
    return np.abs(rise) < _UPRIGHT * np.hypot(down, across)


def blurred_share(reader: SliceReader, survey: Survey) -> float | None:
    """Share of slices whose lung border is much less steep than elsewhere in the study.

    Only upright parts of the border count. Because slices are compared within a study, the share
    does not depend on the scanner's kernel. None if fewer than eight slices show enough of such a
    border. A scan that is blurred throughout is not detected.
    """
    study = reader.study
    shape = study.shape[1:]
    row_mm, col_mm, step_mm = study.known_spacing()
    steady = upright(survey)
    found = []
    for number in survey.slices[:: max(1, round(_MOTION_STEP_MM / step_mm))]:
        lungs = survey.lungs_on(number, shape)
        border = lungs & ~shrunk(lungs) & survey.spread(steady, number, shape)
        value = sharpness(reader.hu(number), border, (row_mm + col_mm) / 2)
        if value is not None:
            found.append(value)
    if len(found) < 8:
        return None
    usual = np.quantile(found, 0.9)
    return float(np.mean(np.asarray(found) < BLURRED * usual))


def _motion_flags(reader: SliceReader, survey: Survey) -> list[Flag]:
    pixel = max(reader.study.known_spacing()[:2])
    if pixel > COARSE_MM:
        reason = "pixels too coarse to judge motion by the borders of the lungs"
        return [Flag("motion_not_judged", False, reason, pixel, COARSE_MM, "mm")]
    share = blurred_share(reader, survey)
    if share is None:
        reason = "too few slices show enough of the lungs' borders to judge motion"
        return [Flag("motion_not_judged", False, reason)]
    if share < MOTION_SHARE:
        return []
    reason = "the borders of the lungs are blurred on some slices: motion"
    return [Flag("motion", True, reason, share, MOTION_SHARE)]


def _geometry_flags(study: CTStudy) -> list[Flag]:
    flags = []
    if not study.placed:
        reason = "the files do not say how the patient lies: order, sides and places are guesses"
        flags.append(Flag("unknown_position", True, reason))
    # In a reformatted volume, rows or columns may be as far apart as thick slices.
    thickness = max(*study.known_spacing(), study.thickness_mm or 0.0)
    if thickness > THICK_MM:
        reason = "thick slices: small emboli are averaged away"
        flags.append(Flag("thick_slices", True, reason, thickness, THICK_MM, "mm"))
    if study.missing_slices:
        share = study.missing_slices / (len(study) + study.missing_slices)
        reason = f"{study.missing_slices} slices are missing between the first and the last"
        flags.append(Flag("missing_slices", share > MISSING_SHARE, reason, share, MISSING_SHARE))
    if study.uneven_steps:
        flags.append(Flag("uneven_steps", False, "the distances between slices differ"))
    if study.tilt_degrees > 1.0:
        reason = "the gantry was tilted"
        flags.append(Flag("tilted_gantry", False, reason, study.tilt_degrees, 1.0, "degrees"))
    if np.linalg.det(study.direction) < 0:
        reason = (
            "the slices are mirrored, seen from the head; the model was trained on the other view"
        )
        flags.append(Flag("mirrored", False, reason))
    if study.direction[1, 1] < 0:
        reason = "the patient lies prone; the model was trained on supine patients"
        flags.append(Flag("prone", True, reason))
    return flags
