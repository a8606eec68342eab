"""The scores of many cases in one table, and all metrics of a system as one statistic."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pe_unified.evaluation.froc import LesionTable
from pe_unified.evaluation.intervals import FloatArray, Statistic, ratio
from pe_unified.evaluation.masks.case_score import CaseScore
from pe_unified.evaluation.masks.rules import Rules
from pe_unified.evaluation.tables import Table


@dataclass(frozen=True)
class CaseTable(Table):
    """Counts and distances of each case; ``patients`` are the cases.

    Fields:
        voxels: float64 (cases, 3), intersection, predicted, reference.
        voxel_ml: float64 (cases,).
        surfaces: float64 (cases, 4), voxels, voxels within the tolerance, sum of distances and HD95
            in mm; the last two NaN if a mask is empty.
        lesions: float64 (cases, 3), found by overlap, counted, false components.
    """

    voxels: FloatArray
    voxel_ml: FloatArray
    surfaces: FloatArray
    lesions: FloatArray

    @classmethod
    def build(cls, scores: Sequence[CaseScore], groups: Mapping[str, str]) -> "CaseTable":
        """Build from scores that all have a mask, sorted by case name."""
        masks = [score.mask for score in scores if score.mask is not None]
        return cls(
            patients=tuple(score.case for score in scores),
            groups=_groups(scores, groups),
            voxels=np.array([[m.intersection, m.predicted, m.reference] for m in masks], float),
            voxel_ml=np.array([m.voxel_ml for m in masks]),
            surfaces=np.array(
                [
                    [m.surface.voxels, m.surface.within, m.surface.total_mm, m.surface.hd95_mm]
                    for m in masks
                ],
                float,
            ),
            lesions=np.array([[m.found.sum(), len(m.found), m.false] for m in masks], float),
        )

    def statistic(self) -> Statistic:
        """Means over cases; names ending in ``_pooled`` are over all voxels of all cases.

        Cases with both masks empty are not included; with one mask empty, distances are undefined.
        """
        intersection, predicted, reference = self.voxels.T
        size, within, total, hd95 = self.surfaces.T
        error = np.where(predicted + reference > 0, predicted - reference, np.nan) * self.voxel_ml
        per_case = {
            "mask/dice": ratio(2 * intersection, predicted + reference),
            "mask/nsd": ratio(within, size),
            "mask/assd_mm": ratio(total, size),
            "mask/hd95_mm": hd95,
            "mask/volume_error_ml": error,
            "mask/volume_error_abs_ml": np.abs(error),
        }
        has_distance = np.isfinite(total)
        distances = np.where(has_distance, total, 0.0)

        def statistic(weights: FloatArray) -> dict[str, FloatArray]:
            found = {}
            for name, values in per_case.items():
                defined = np.isfinite(values)
                sums = weights @ np.where(defined, values, 0.0)
                found[name] = ratio(sums, weights @ defined.astype(float))
            hits, lesions, false = (weights @ column for column in self.lesions.T)
            return {
                **found,
                "mask/dice_pooled": ratio(
                    weights @ (2 * intersection), weights @ (predicted + reference)
                ),
                "mask/nsd_pooled": ratio(weights @ within, weights @ size),
                "mask/assd_pooled_mm": ratio(
                    weights @ distances, weights @ np.where(has_distance, size, 0.0)
                ),
                "overlap/recall": ratio(hits, lesions),
                "overlap/precision": ratio(hits, hits + false),
                "overlap/f1": ratio(2 * hits, hits + false + lesions),
                "overlap/false_positives_per_scan": ratio(false, weights.sum(axis=1)),
            }

        return statistic


def lesion_tables(
    scores: Sequence[CaseScore], rules: Rules, groups: Mapping[str, str]
) -> dict[float, LesionTable]:
    """The marks of all cases, by epsilon."""
    return {
        epsilon: dataclasses.replace(
            LesionTable.build(
                [score.case for score in scores],
                [score.confidences for score in scores],
                [score.distances_mm for score in scores],
                epsilon,
                [score.counted for score in scores],
            ),
            groups=_groups(scores, groups),
        )
        for epsilon in rules.epsilons_mm
    }


def metrics_of(scores: Sequence[CaseScore], rules: Rules, groups: Mapping[str, str]) -> Statistic:
    """All metrics of a system, as a function of the cases' weights.

    Args:
        scores: sorted by case name.
        groups: case to group; a case without one forms its own group.
    """
    parts: list[tuple[str, Statistic]] = []
    if all(score.mask is not None for score in scores):
        parts.append(("", CaseTable.build(scores, groups).statistic()))
    scored = any(score.scored for score in scores)
    for epsilon, table in lesion_tables(scores, rules, groups).items():
        parts.append((f"{epsilon:g}mm/", table.totals()))
        if scored:
            parts.append((f"{epsilon:g}mm/", table.statistic(rules.rates)))

    def statistic(weights: FloatArray) -> dict[str, FloatArray]:
        return {
            f"{prefix}{name}": values
            for prefix, part in parts
            for name, values in part(weights).items()
        }

    return statistic


def _groups(scores: Sequence[CaseScore], groups: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(groups.get(score.case, score.case) for score in scores)
