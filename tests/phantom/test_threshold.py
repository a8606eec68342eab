"""The threshold that painted sets are measured against."""

from pathlib import Path

import numpy as np
import pytest

from pe_unified.errors import DataError
from pe_unified.phantom.study import STRUCTURES, paint_study
from pe_unified.phantom.threshold import (
    Band,
    RegionVoxels,
    best_band,
    pooled_dice,
    read_studies,
    region_voxels,
    slice_auc,
)


def _voxels(hu, embolus, slices=None, positive=(True,)) -> RegionVoxels:
    slices = np.zeros(len(hu), dtype=int) if slices is None else np.array(slices)
    return RegionVoxels(np.array(hu), np.array(embolus, dtype=bool), slices, np.array(positive))


def test_the_best_band_is_found() -> None:
    band = best_band([_voxels([-5, 0, 10, 20, 30, 30, 40, 300], [0, 0, 1, 1, 1, 0, 0, 0])])
    assert band.dice == pytest.approx(6 / 7)
    assert 0 < band.low <= 10 and 30 < band.high <= 40
    # Every pair of bounds, tried one by one.
    rng = np.random.default_rng(3)
    hu, truth = rng.integers(-8, 9, 60), rng.random(60) < 0.3
    tried = [
        2 * (truth & (hu >= a) & (hu < b)).sum() / (((hu >= a) & (hu < b)).sum() + truth.sum())
        for a in range(-9, 11)
        for b in range(a, 11)
    ]
    assert best_band([_voxels(hu, truth)]).dice == pytest.approx(max(tried))


def test_a_band_is_applied_to_other_studies() -> None:
    band = Band(20, 50, 0.0)
    one = _voxels([10, 20, 49, 50], [0, 1, 1, 1], [0, 0, 2, 2], [True, False, True])
    other = _voxels([30, 99], [0, 0], [0, 1], [False, False])
    assert pooled_dice(band, [one, other]) == pytest.approx(2 * 2 / (3 + 3))
    # Voxels in the band by slice: 1, 0, 1 and 1, 0; a tie counts half.
    assert slice_auc(band, [one, other]) == pytest.approx((1 + 0.5 + 1) / 3)


def test_a_region_is_taken_out_of_a_study() -> None:
    hu = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    structures = np.zeros_like(hu)
    structures[0, 0, 0], structures[1, 1, 1] = STRUCTURES["artery"], STRUCTURES["vein"]
    emboli = np.zeros_like(hu)
    emboli[1, 1, 1] = 2
    vessels = region_voxels(hu, structures, emboli, "vessels")
    assert vessels.hu.tolist() == [0, 13] and vessels.slice.tolist() == [0, 1]
    assert vessels.embolus.tolist() == [False, True] == vessels.positive.tolist()
    hu[1, 1, 1] = 900
    assert region_voxels(hu, structures, emboli, "vessels", median=True).hu[1] == 14
    assert region_voxels(hu, structures, emboli, "arteries").hu.tolist() == [0]


def test_slices_meet_their_truth(painted_set) -> None:
    studies = list(read_studies(painted_set[0], ("train", "test"), [painted_set[1]]))
    assert len(studies) == 4
    for hu, structures, emboli in studies:
        assert hu.shape == structures.shape == emboli.shape == (16, 64, 64)
        # Contrast lies in the arteries, which it would not in another order of the slices.
        inside = structures == STRUCTURES["artery"]
        assert hu[inside].mean() > hu[inside[::-1]].mean() + 50


def test_a_patient_without_truth_is_named(painted_set, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="PAT00"):
        next(read_studies(painted_set[0], ("test",), [tmp_path]))


@pytest.mark.slow
def test_painted_studies_defeat_it() -> None:
    """Chosen on some studies and applied to others, with the true vessels in hand."""
    voxels = []
    for seed in range(60, 72):
        study = paint_study(seed, (30, 96, 96), positive=seed % 5 != 0)
        voxels.append(region_voxels(study.hu, study.structures, study.emboli, "vessels"))
    for known, unseen in ((voxels[::2], voxels[1::2]), (voxels[1::2], voxels[::2])):
        assert pooled_dice(best_band(known), unseen) < 0.4
