"""Scores of one case: predictions of systems against the reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pe_unified.ct.mask_volumes import MaskVolume, covering, read_mask_volume, same_spacing
from pe_unified.ct.overlay import EvenSlices
from pe_unified.ct.temporary_folder import scratch_folder
from pe_unified.evaluation.components import Lesions, find_lesions
from pe_unified.evaluation.froc import mark_distances
from pe_unified.evaluation.intervals import FloatArray
from pe_unified.evaluation.masks.case_files import Predicted
from pe_unified.evaluation.masks.prediction import Prediction, read_prediction, whole_numbers
from pe_unified.evaluation.masks.rules import Rules
from pe_unified.evaluation.surfaces import SurfaceAgreement, surface_agreement


@dataclass(frozen=True, eq=False)
class MaskScore:
    """A predicted mask against the reference.

    Attributes:
        intersection, predicted, reference: numbers of voxels.
        voxel_ml: volume of a voxel.
        found: bool (counted lesions,), whether the lesion has a predicted voxel.
        false: number of predicted components that share no voxel with any lesion.
        components: number of predicted components.
    """

    intersection: int
    predicted: int
    reference: int
    voxel_ml: float
    surface: SurfaceAgreement
    found: NDArray[np.bool_]
    false: int
    components: int

    @property
    def dice(self) -> float:
        """NaN if both masks are empty, 0 if one is."""
        total = self.predicted + self.reference
        return 2 * self.intersection / total if total else float("nan")

    @property
    def volume_error_ml(self) -> float:
        """Predicted minus reference."""
        return (self.predicted - self.reference) * self.voxel_ml


@dataclass(frozen=True, eq=False)
class CaseScore:
    """The score of a system on one case.

    Attributes:
        volumes_mm3: float64 (lesions,), lesions of the reference, including small ones.
        counted: bool (lesions,), whether the lesion is large enough to count.
        confidences: float64 (marks,).
        distances_mm: float64 (marks, lesions).
        scored: whether confidences are known; else all are 1.
        mask: None if the system gives only marks.
        outside: number of marks outside the scan.
        notes: remarks on how the prediction was read.
    """

    case: str
    volumes_mm3: FloatArray
    counted: NDArray[np.bool_]
    confidences: FloatArray
    distances_mm: FloatArray
    scored: bool
    mask: MaskScore | None
    outside: int = 0
    notes: tuple[str, ...] = ()


def score_case(
    case: str, reference: Path, predictions: Sequence[Predicted], rules: Rules
) -> list[CaseScore]:
    """Compare the predictions of several systems for a case with its reference.

    Raises:
        DataError: a file cannot be read or resampled to the reference; names it.
    """
    with scratch_folder() as scratch:
        stored = read_mask_volume(reference, scratch)
        whole = _lesions_of(stored, rules)
        scores = []
        for predicted in predictions:
            truth, lesions = stored, whole
            if stored.is_cut and predicted.mask is not None and not rules.by_index:
                truth = _around(stored, predicted.mask)
                lesions = _lesions_of(truth, rules)
            found = read_prediction(predicted, truth, stored.affine, scratch, rules)
            scores.append(_score(case, truth, lesions, found, rules))
        return scores


def _lesions_of(truth: MaskVolume, rules: Rules) -> Lesions:
    voxel_mm3 = truth.slices.voxel_mm3
    return find_lesions(whole_numbers(truth), voxel_mm3, rules.connectivity, rules.instances)


def _around(stored: MaskVolume, mask: Path) -> MaskVolume:
    """A reference cut to its segments, extended over the grid of a prediction.

    It is left as it is where the grids cannot be compared, which the prediction's reader tells.
    """
    with scratch_folder() as scratch:
        own = read_mask_volume(mask, scratch)
        alike = own.array.shape == stored.array.shape
        if not (own.placed and stored.placed) or (alike and not same_spacing(own, stored)):
            return stored
        return covering(stored, own)


def _score(
    case: str, truth: MaskVolume, lesions: Lesions, found: Prediction, rules: Rules
) -> CaseScore:
    slices = truth.slices
    counted = lesions.volumes_mm3 >= rules.smallest_mm3
    mask = None
    if found.components is not None:
        mask = _mask_score(found.components, lesions, counted, slices, rules)
    points = found.marks.points - lesions.start
    return CaseScore(
        case,
        lesions.volumes_mm3,
        counted,
        found.marks.confidences,
        mark_distances(points, lesions.labels, slices.spacing_mm),
        found.scored,
        mask,
        found.outside,
        tuple(found.notes),
    )


def _mask_score(
    components: Lesions,
    lesions: Lesions,
    counted: NDArray[np.bool_],
    slices: EvenSlices,
    rules: Rules,
) -> MaskScore:
    points = lesions.points()
    hit = components.at(points)
    touched = np.zeros(len(components) + 1, dtype=bool)
    touched[hit] = True
    found = np.zeros(len(lesions) + 1, dtype=bool)
    found[lesions.at(points[hit > 0])] = True
    surfaces = components.surface(), lesions.surface()
    return MaskScore(
        intersection=int((hit > 0).sum()),
        predicted=int(components.voxels.sum()),
        reference=int(lesions.voxels.sum()),
        voxel_ml=slices.voxel_mm3 / 1000,
        surface=surface_agreement(*surfaces, slices.spacing_mm, rules.tolerance_mm),
        found=found[1:][counted],
        false=int((~touched[1:]).sum()),
        components=len(components),
    )
