"""Lesion-level FROC as in the CAD-PE challenge.

A mark finds every embolus within epsilon (0, 2 or 5 mm) of it; a mark near none is a false
positive. Further marks on a found embolus do not count, nor do marks that are only near emboli too
small to be counted. Sensitivity over emboli is reported against false positives per scan (data and
rules: doi 10.21227/9bw7-6823).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pe_unified.evaluation.components import values_at
from pe_unified.evaluation.intervals import FloatArray, Statistic, ratio
from pe_unified.evaluation.surfaces import surface_voxels
from pe_unified.evaluation.tables import IntArray, Table, index_patients

#: False positives per scan at which sensitivity is reported.
FALSE_POSITIVE_RATES = (0.5, 1.0, 2.0, 4.0, 6.0)
#: Distances, mm, at which a mark finds an embolus.
EPSILONS_MM = (0.0, 2.0, 5.0)
#: Smaller emboli (cubic mm) are not counted, and a mark on one is neither true nor false.
SMALLEST_MM3 = 10.0
#: Largest number of pairs of marks and voxels processed at once.
_PAIRS = 1 << 20


def mark_distances(
    marks: ArrayLike, instances: NDArray[np.integer], spacing_mm: Sequence[float]
) -> FloatArray:
    """Distance of every mark to every embolus of one scan.

    Args:
        marks: (marks, 3), voxel coordinates z y x; integers are voxel centres.
        instances: (slices, rows, cols), 0 background, one integer per embolus.
        spacing_mm: (slice, row, col), mm.

    Returns:
        (marks, emboli) in mm, emboli by ascending integer; 0 inside a voxel of the embolus,
        otherwise the distance to the nearest face of its voxels.
    """
    points = np.asarray(marks, dtype=np.float64).reshape(-1, 3)
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    boxes = list(enumerate(ndimage.find_objects(instances) if instances.size else (), start=1))
    present = [(label, box) for label, box in boxes if box is not None]
    distances = np.empty((len(points), len(present)))
    for column, (label, box) in enumerate(present):
        own = instances[box] == label
        start = np.array([side.start for side in box])
        inside = values_at(own, tuple(start), np.rint(points).astype(np.int64))
        # Outside the embolus, the nearest voxel is a surface voxel.
        voxels = surface_voxels(own) + start
        step = max(1, _PAIRS // len(voxels))
        for first in range(0, len(points), step):
            some = points[first : first + step, None]
            beyond = np.clip(np.abs(voxels - some) - 0.5, 0.0, None) * spacing
            nearest = np.sqrt((beyond**2).sum(axis=2).min(axis=1))
            distances[first : first + step, column] = nearest
        distances[inside, column] = 0.0
    return distances


@dataclass(frozen=True)
class LesionTable(Table):
    """Marks of all scans at one epsilon.

    Fields:
        embolus_patient: int64 (emboli,), index into ``patients``.
        best: float64 (emboli,), highest confidence of a mark that finds it; -inf without one.
        false_patient: int64 (false positives,), index into ``patients``.
        false_confidence: float64 (false positives,).
        scans: int64 (patients,), number of scans.
    """

    embolus_patient: IntArray
    best: FloatArray
    false_patient: IntArray
    false_confidence: FloatArray
    scans: IntArray

    @classmethod
    def build(
        cls,
        patient_ids: list[str],
        confidences: list[FloatArray],
        distances: list[FloatArray],
        epsilon_mm: float,
        counted: list[NDArray[np.bool_]] | None = None,
    ) -> "LesionTable":
        """Assign marks to emboli and false positives.

        Args, one entry per scan:
            patient_ids: its patient.
            confidences: (marks,).
            distances: (marks, emboli), from :func:`mark_distances`.
            epsilon_mm: the same for all scans.
            counted: (emboli,), all by default; a mark only near others is neither true nor false.
        """
        patients, scan_patient = index_patients(patient_ids)
        best, false, embolus_patient, false_patient = [], [], [], []
        if counted is None:
            counted = [np.ones(each.shape[1], dtype=bool) for each in distances]
        for patient, confidence, distance, kept in zip(
            scan_patient, confidences, distances, counted, strict=True
        ):
            if len(confidence) != len(distance):
                raise ValueError(
                    f"patient {patients[patient]}: {len(confidence)} confidences for "
                    f"{len(distance)} marks"
                )
            near = distance <= epsilon_mm
            reach = np.where(near, np.asarray(confidence)[:, None], -np.inf)[:, kept]
            best.append(reach.max(axis=0, initial=-np.inf))
            false.append(np.asarray(confidence, dtype=np.float64)[~near.any(axis=1)])
            embolus_patient.append(np.full(len(best[-1]), patient))
            false_patient.append(np.full(len(false[-1]), patient))
        return cls(
            patients=patients,
            embolus_patient=np.concatenate(embolus_patient),
            best=np.concatenate(best),
            false_patient=np.concatenate(false_patient),
            false_confidence=np.concatenate(false),
            scans=np.bincount(scan_patient, minlength=len(patients)).astype(np.int64),
        )

    def statistic(
        self, rates: Sequence[float] = FALSE_POSITIVE_RATES, threshold: float | None = None
    ) -> Statistic:
        """``sensitivity_at_<rate>`` at that many false positives per scan at most, and their mean.

        ``mean_sensitivity`` summarises the curve in one number. Undefined without an embolus. With
        a threshold, also :meth:`totals` of the marks from the threshold on.
        """
        totals = None if threshold is None else self.above(threshold).totals()
        order = np.argsort(-self.false_confidence, kind="stable")
        false_patient, confidence = self.false_patient[order], self.false_confidence[order]

        def statistic(weights: FloatArray) -> dict[str, FloatArray]:
            found = np.zeros((len(weights), len(rates)))
            for row, weight in enumerate(weights):
                false = np.cumsum(weight[false_patient])
                emboli = weight[self.embolus_patient]
                allowed = np.asarray(rates) * (weight @ self.scans)
                excess = np.searchsorted(false, allowed, side="right")
                cuts = np.append(confidence, -np.inf)[excess]
                found[row] = (self.best > cuts[:, None]) @ emboli
            emboli = weights @ np.bincount(self.embolus_patient, minlength=len(self.patients))
            sensitivity = ratio(found, emboli[:, None])
            named = {f"sensitivity_at_{rate:g}": sensitivity[:, i] for i, rate in enumerate(rates)}
            found_at = {} if totals is None else totals(weights)
            return {**named, "mean_sensitivity": sensitivity.mean(axis=1), **found_at}

        return statistic

    def above(self, threshold: float) -> "LesionTable":
        """The table of the marks whose confidence is at least ``threshold``."""
        kept = self.false_confidence >= threshold
        return replace(
            self,
            best=np.where(self.best >= threshold, self.best, -np.inf),
            false_patient=self.false_patient[kept],
            false_confidence=self.false_confidence[kept],
        )

    def best_f1_threshold(self) -> float | None:
        """The confidence threshold with the highest F1; None if no mark finds an embolus.

        Of equally good thresholds the lowest is taken.
        """
        cuts = np.unique(self.best[np.isfinite(self.best)])
        if not len(cuts):
            return None
        found = (self.best >= cuts[:, None]).sum(axis=1)
        false = (self.false_confidence >= cuts[:, None]).sum(axis=1)
        return float(cuts[np.argmax(2 * found / (found + false + len(self.best)))])

    def totals(self) -> Statistic:
        """Metrics of all marks, whatever their confidence.

        ``recall`` (found emboli / all emboli), ``precision`` (found emboli / found emboli and false
        positives), their harmonic mean ``f1``, and ``false_positives_per_scan``.
        """
        patients = len(self.patients)
        emboli = np.bincount(self.embolus_patient, minlength=patients)
        found = np.bincount(self.embolus_patient[np.isfinite(self.best)], minlength=patients)
        false = np.bincount(self.false_patient, minlength=patients)

        def statistic(weights: FloatArray) -> dict[str, FloatArray]:
            hits, wrong, all_emboli = weights @ found, weights @ false, weights @ emboli
            return {
                "recall": ratio(hits, all_emboli),
                "precision": ratio(hits, hits + wrong),
                "f1": ratio(2 * hits, hits + wrong + all_emboli),
                "false_positives_per_scan": ratio(wrong, weights @ self.scans),
            }

        return statistic
