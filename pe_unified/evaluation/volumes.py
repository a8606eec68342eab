"""Metrics of studies in three dimensions: emboli found against false positives, and Dice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pe_unified.evaluation.froc import EPSILONS_MM, SMALLEST_MM3, LesionTable
from pe_unified.evaluation.intervals import FloatArray, Statistic
from pe_unified.evaluation.segmentation import SegTable
from pe_unified.evaluation.tables import IntArray, Table, index_patients


@dataclass(frozen=True)
class ScanMarks:
    """The marks and emboli of one scan.

    Attributes:
        patient: its patient.
        counts: uint32 (2, 256), :func:`~pe_unified.evaluation.segmentation.probability_histogram`
            of the voxels of the grid.
        confidences: float64 (marks,).
        distances: float64 (marks, emboli), from :func:`~pe_unified.evaluation.froc.mark_distances`.
        volumes_mm3: float64 (emboli,).
    """

    patient: str
    counts: NDArray[np.uint32]
    confidences: FloatArray
    distances: FloatArray
    volumes_mm3: FloatArray


@dataclass(frozen=True)
class VolumeTable(Table):
    """Marks and voxels of a split.

    Fields:
        scan_patient: int64 (scans,), index into ``patients``.
        counts: uint32 (scans, 2, 256), voxels by probability.
        lesion_patient: int64 (emboli,), patients of the counted emboli.
        best: float64 (emboli, epsilons), highest confidence of a mark that finds it; -inf without
            one.
        mark_patient: int64 (marks,).
        confidence: float64 (marks,).
        nearest_mm: float64 (marks,), distance to the nearest embolus of any size; infinite if there
            is none.
    """

    scan_patient: IntArray
    counts: NDArray[np.uint32]
    lesion_patient: IntArray
    best: FloatArray
    mark_patient: IntArray
    confidence: FloatArray
    nearest_mm: FloatArray

    @classmethod
    def build(cls, scans: Sequence[ScanMarks], smallest_mm3: float = SMALLEST_MM3) -> "VolumeTable":
        """The table of some scans; emboli below ``smallest_mm3`` are not counted."""
        patients, owner = index_patients(scan.patient for scan in scans)
        best, lesion_patient, mark_patient = [], [], []
        for scan, patient in zip(scans, owner, strict=True):
            counted = scan.volumes_mm3 >= smallest_mm3
            near = scan.distances[:, counted, None] <= np.array(EPSILONS_MM)
            reach = np.where(near, scan.confidences[:, None, None], -np.inf)
            best.append(reach.max(axis=0, initial=-np.inf))
            lesion_patient.append(np.full(int(counted.sum()), patient))
            mark_patient.append(np.full(len(scan.confidences), patient))
        return cls(
            patients=patients,
            scan_patient=owner,
            counts=np.stack([scan.counts for scan in scans]),
            lesion_patient=np.concatenate(lesion_patient),
            best=np.concatenate(best),
            mark_patient=np.concatenate(mark_patient),
            confidence=np.concatenate([scan.confidences for scan in scans]),
            nearest_mm=np.concatenate(
                [scan.distances.min(axis=1, initial=np.inf) for scan in scans]
            ),
        )

    def marks(self, epsilon_mm: float = 0.0) -> LesionTable:
        """The marks at one of :data:`~pe_unified.evaluation.froc.EPSILONS_MM`."""
        false = self.nearest_mm > epsilon_mm
        return LesionTable(
            patients=self.patients,
            groups=self.groups,
            embolus_patient=self.lesion_patient,
            best=self.best[:, EPSILONS_MM.index(epsilon_mm)],
            false_patient=self.mark_patient[false],
            false_confidence=self.confidence[false],
            scans=np.bincount(self.scan_patient, minlength=len(self.patients)).astype(np.int64),
        )

    def voxels(self) -> SegTable:
        """The voxels of every scan, as if a scan were a slice."""
        return SegTable(self.patients, self.scan_patient, self.counts, groups=self.groups)

    def statistic(self, threshold: float) -> Statistic:
        """Sensitivities of marks, and ``dice`` pooled over all voxels.

        ``sensitivity_at_<rate>`` and ``mean_sensitivity`` are for marks inside emboli; with
        ``_2mm`` and ``_5mm`` for marks within that distance.

        Args:
            threshold: probability from which a voxel counts as embolus, only for the Dice.
        """
        of_marks = {epsilon: self.marks(epsilon).statistic() for epsilon in EPSILONS_MM}
        of_voxels = self.voxels().statistic(threshold)

        def statistic(weights: FloatArray) -> dict[str, FloatArray]:
            found: dict[str, FloatArray] = {}
            for epsilon, each in of_marks.items():
                ending = f"_{epsilon:g}mm" if epsilon else ""
                found |= {f"{name}{ending}": value for name, value in each(weights).items()}
            return {**found, "dice": of_voxels(weights)["dice"]}

        return statistic
