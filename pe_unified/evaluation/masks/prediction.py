"""A prediction of any kind on the grid of its reference: components and marks."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pe_unified.ct.mask_volumes import (
    MaskVolume,
    read_mask_volume,
    read_nnunet_probabilities,
    same_spacing,
)
from pe_unified.ct.overlay import EvenSlices, nearest_voxels, same_grid
from pe_unified.errors import DataError
from pe_unified.evaluation.components import Lesions, find_lesions
from pe_unified.evaluation.marks import Marks, marks_of
from pe_unified.evaluation.masks.case_files import Predicted
from pe_unified.evaluation.masks.rules import Rules

#: At least this share of a mask must have this probability in nnU-Net's probabilities.
_AGREES, _HALF = 0.99, 0.499


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for one case.

    Attributes:
        components: components of the mask; None if there are only marks.
        scored: whether confidences of marks are known.
        outside: number of marks outside the scan.
        notes: remarks on how it was resampled to the reference.
    """

    components: Lesions | None
    marks: Marks
    scored: bool = False
    outside: int = 0
    notes: list[str] = field(default_factory=list)


def read_prediction(
    predicted: Predicted, truth: MaskVolume, file_affine: NDArray, scratch: Path, rules: Rules
) -> Prediction:
    """Read a prediction and resample it to its reference.

    Args:
        file_affine: of the file of the reference, before it was extended; for marks in pixels.

    Raises:
        DataError: it is unreadable or does not overlap the reference.
    """
    slices = truth.slices
    notes: list[str] = []

    def components_of(mask: NDArray) -> Lesions:
        return find_lesions(mask, slices.voxel_mm3, rules.connectivity)

    mask, probability = None, None
    own = read_mask_volume(predicted.mask, scratch) if predicted.mask else None
    if own is not None:
        values = _laid_over(own, truth, rules.by_index, notes)
        if is_probability(own):
            probability = values
        else:
            _require_labels(own)
            mask = values
    if predicted.probabilities is not None:
        array = read_nnunet_probabilities(predicted.probabilities)
        beside = own or truth
        if array.shape != beside.array.shape:
            reason = f"has {array.shape} voxels, unlike {beside.path.name}"
            raise DataError(
                predicted.probabilities, reason, "put the mask of nnU-Net into the same folder"
            )
        as_mask = MaskVolume(predicted.probabilities, array, beside.affine, beside.placed)
        if mask is not None:
            _require_agreement(as_mask, own)
        probability = _laid_over(as_mask, truth, rules.by_index, notes if own is None else [])
    parts_are_mask = mask is None and rules.mark_threshold == rules.threshold
    if mask is None and probability is not None:
        mask = probability >= rules.threshold
    components = None
    if mask is not None:
        components = components_of(mask)
    elif predicted.marks is None:
        components = components_of(np.zeros((1, 1, 1), dtype=bool))
    if predicted.marks is not None:
        marks = predicted.marks.on(slices, file_affine)
        # The scan goes on where a cut file ends.
        outside = 0 if truth.is_cut else _outside(marks, slices)
        if outside:
            notes.append(f"{outside} of {len(marks)} marks lie outside the scan")
        return Prediction(components, marks, predicted.marks.scored, outside, notes)
    if probability is None:
        assert components is not None
        return Prediction(components, marks_of(components, slices.spacing_mm), notes=notes)
    parts = components
    if parts is None or not parts_are_mask:
        parts = components_of(probability >= rules.mark_threshold)
    box = tuple(slice(a, a + n) for a, n in zip(parts.start, parts.labels.shape, strict=True))
    marks = marks_of(parts, slices.spacing_mm, probability[box])
    return Prediction(components, marks, scored=True, notes=notes)


def is_probability(volume: MaskVolume) -> bool:
    """Whether a file has fractions, which makes it a probability map.

    Raises:
        DataError: fractions outside 0..1.
    """
    array = volume.array
    if array.dtype.kind != "f" or all((level == np.rint(level)).all() for level in volume.values):
        return False
    if not (array.min() >= 0 and array.max() <= 1):
        reason = f"neither labels nor probabilities: from {array.min():.4g} to {array.max():.4g}"
        raise DataError(volume.path, reason, "save labels, or probabilities from 0 to 1")
    return True


def whole_numbers(volume: MaskVolume) -> NDArray:
    """The labels of a reference (slices, rows, cols).

    Raises:
        DataError: the labels are not integers, or negative.
    """
    values = volume.values
    if values.dtype.kind == "f":
        if not all((level == np.rint(level)).all() for level in values):
            reason = "a reference with fractions"
            raise DataError(volume.path, reason, "save labels; were the folders swapped?")
        values = np.rint(values).astype(np.int32)
    _require_labels(volume)
    return values


def _require_labels(volume: MaskVolume) -> None:
    if volume.array.size and volume.array.min() < 0:
        cure = "save labels, with 0 for background; is it the scan?"
        raise DataError(volume.path, f"negative labels, down to {volume.array.min():.4g}", cure)


def _laid_over(volume: MaskVolume, truth: MaskVolume, by_index: bool, notes: list[str]) -> NDArray:
    """Values (slices, rows, cols) on the grid of a reference; adds remarks to ``notes``."""
    slices, own = truth.slices, volume.slices
    alike = volume.array.shape == truth.array.shape
    if by_index and alike:
        return truth.turn.apply(volume.array)
    if not (volume.placed and truth.placed):
        if not alike:
            reason = (
                f"{volume.array.shape} voxels, but the reference has {truth.array.shape}, and no "
                "header gives the position"
            )
            raise DataError(volume.path, reason, "save it with the header of the scan")
        notes.append("paired by index: a header does not give the position")
        return truth.turn.apply(volume.array)
    if same_grid(slices, own.shape, own.affine):
        return volume.values
    ours, theirs = np.array(slices.spacing_mm), np.array(own.spacing_mm)
    if own.shape == slices.shape and not same_spacing(volume, truth):
        reason = (
            f"as many voxels as the reference, but a spacing of {_mm(theirs)} mm, not {_mm(ours)}"
        )
        cure = "save it with the header of the scan, or pass --by-index if the voxels correspond"
        raise DataError(volume.path, reason, cure)
    found = nearest_voxels(volume.values, own.affine, slices)
    if not found.any() and volume.array.any():
        raise DataError(volume.path, "does not overlap the reference", "check which case it is of")
    shape = " x ".join(map(str, own.shape))
    notes.append(f"resampled (nearest voxel) from another grid, {shape} of {_mm(theirs)} mm")
    return found


def _mm(spacing: NDArray) -> str:
    return " x ".join(f"{each:.3g}" for each in spacing)


def _require_agreement(probabilities: MaskVolume, mask: MaskVolume | None) -> None:
    """Reject probabilities that do not agree with the mask next to them."""
    assert mask is not None
    where = mask.array != 0
    likely = probabilities.array[where] >= _HALF
    if len(likely) and likely.mean() < _AGREES:
        reason = f"only {likely.mean():.0%} of {mask.path.name} has a probability of 0.5 or more"
        raise DataError(
            probabilities.path, reason, "put the mask of the same run into the same folder"
        )


def _outside(marks: Marks, slices: EvenSlices) -> int:
    last = np.array(slices.shape) - 0.5
    return int(((marks.points < -0.5) | (marks.points > last)).any(axis=1).sum())
