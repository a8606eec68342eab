"""Segmentation metrics: pooled and per-slice Dice and IoU at any threshold, from histograms."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pe_unified.evaluation.intervals import FloatArray, Statistic, ratio
from pe_unified.evaluation.slices import SliceTable, WeightedAuc
from pe_unified.evaluation.tables import IntArray, Table, index_patients, sum_by_patient

#: Number of bins of probabilities: thresholds are exact multiples of 1/256.
BINS = 256


def probability_histogram(
    probability: torch.Tensor | NDArray, mask: torch.Tensor | NDArray
) -> NDArray[np.uint32]:
    """Count pixels by probability, separately for background and embolus.

    Args:
        probability: float, any shape, in [0, 1].
        mask: same shape, non-zero = embolus.

    Returns:
        uint32 (2, 256): row 0 background, row 1 embolus; bin k has the probabilities in [k/256,
        (k+1)/256), the last one also 1.

    Raises:
        ValueError: shapes differ, or a probability is NaN or outside [0, 1].
    """
    probability = torch.as_tensor(probability).detach()
    mask = torch.as_tensor(mask)
    if probability.shape != mask.shape:
        raise ValueError(
            f"probabilities {tuple(probability.shape)} and mask {tuple(mask.shape)} differ in "
            "shape; predictions belong in the geometry of the stored slice"
        )
    probability = probability.float()
    low, high = torch.aminmax(probability)
    if not (low >= 0 and high <= 1):
        raise ValueError(f"probabilities lie in [0, 1], these in [{low:.4g}, {high:.4g}]")
    bins = (probability * BINS).to(torch.int64).clamp_(max=BINS - 1)
    bins += BINS * (mask.to(probability.device) != 0)
    counts = torch.bincount(bins.flatten(), minlength=2 * BINS)
    return counts.cpu().numpy().astype(np.uint32).reshape(2, BINS)


def threshold_bin(threshold: float) -> int:
    """The first bin called embolus: ``threshold`` rounded up to a multiple of 1/256.

    Raises:
        ValueError: the threshold is not in (0, 255/256].
    """
    first = math.ceil(threshold * BINS)
    if not 1 <= first < BINS:
        raise ValueError(
            f"a segmentation threshold lies in (0, {(BINS - 1) / BINS}], got {threshold}"
        )
    return first


@dataclass(frozen=True)
class SegTable(Table):
    """Pixel counts of a split.

    Fields:
        patient: int64 (slices,), index into ``patients``.
        counts: uint32 (slices, 2, 256), :func:`probability_histogram` of each slice.
    """

    patient: IntArray
    counts: NDArray[np.uint32]

    @classmethod
    def build(cls, patient_ids: list[str], counts: list[NDArray[np.uint32]]) -> "SegTable":
        patients, patient = index_patients(patient_ids)
        return cls(patients, patient, np.stack(counts))

    def overlaps(self, threshold: float) -> IntArray:
        """Pixels of each slice: int64 (slices, 3), intersection, predicted, reference."""
        first = threshold_bin(threshold)
        called = self.counts[:, :, first:].sum(axis=2, dtype=np.int64)
        reference = self.counts[:, 1].sum(axis=1, dtype=np.int64)
        return np.stack([called[:, 1], called.sum(axis=1), reference], axis=1)

    def by_highest_pixel(self) -> SliceTable:
        """Slices with their highest pixel probability as the score, rounded down to a bin.

        Of slices with the same highest bin, those with a larger share of pixels in it score higher,
        by less than a bin.
        """
        pixels = self.counts.sum(axis=1, dtype=np.int64)
        highest = BINS - 1 - (pixels[:, ::-1] > 0).argmax(axis=1)
        share = pixels[np.arange(len(pixels)), highest] / pixels.sum(axis=1) * (1 - 2**-20)
        label = self.counts[:, 1].sum(axis=1, dtype=np.int64) > 0
        score = (highest + share) / BINS
        return SliceTable(self.patients, self.patient, label, score, groups=self.groups)

    def statistic(self, threshold: float) -> Statistic:
        """dice and iou pooled over all pixels; dice_positive and iou_positive per slice; slice_auc.

        ``dice_positive`` and ``iou_positive`` are means over slices with an embolus. A slice
        without one only affects the pooled metrics, through its false-positive pixels, and
        ``slice_auc``. That is the AUC of :meth:`by_highest_pixel`; it does not depend on the
        threshold. All are undefined without an embolus pixel, ``slice_auc`` also without a slice
        that has none.
        """
        overlaps = self.overlaps(threshold)
        pooled = sum_by_patient(overlaps, self.patient, len(self.patients))
        has_embolus = overlaps[:, 2] > 0
        dice, iou = dice_and_iou(*overlaps[has_embolus].T.astype(np.float64))
        per_slice = sum_by_patient(
            np.stack([dice, iou, np.ones_like(dice)], axis=1),
            self.patient[has_embolus],
            len(self.patients),
        )
        whole = self.by_highest_pixel()
        auc = WeightedAuc(whole.score, whole.label, whole.patient)

        def statistic(weights: FloatArray) -> dict[str, FloatArray]:
            pooled_dice, pooled_iou = dice_and_iou(*(weights @ pooled).T)
            dice_sum, iou_sum, slices = (weights @ per_slice).T
            return {
                "dice": pooled_dice,
                "iou": pooled_iou,
                "dice_positive": ratio(dice_sum, slices),
                "iou_positive": ratio(iou_sum, slices),
                "slice_auc": auc(weights),
            }

        return statistic


def dice_and_iou(
    intersection: FloatArray, predicted: FloatArray, reference: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Dice and IoU from pixel counts of any shape; NaN where the reference is empty."""
    total = np.where(reference > 0, predicted + reference, 0.0)
    union = np.where(reference > 0, predicted + reference - intersection, 0.0)
    return ratio(2 * intersection, total), ratio(intersection, union)


def choose_threshold(table: SegTable) -> float | None:
    """The multiple of 1/256 with the highest pooled Dice; None if none finds an embolus pixel.

    Of equally good thresholds the one nearest to 0.5 is taken.
    """
    pooled = table.counts.sum(axis=0, dtype=np.int64)
    reference = pooled[1].sum()
    if reference == 0:
        return None
    above = pooled[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:].astype(np.float64)
    dice, _ = dice_and_iou(above[1], above.sum(axis=0), np.full(BINS - 1, float(reference)))
    if not dice.max():
        return None
    best = 1 + np.flatnonzero(dice == dice.max())
    return float(best[np.argmin(np.abs(best - BINS // 2))] / BINS)
