"""Surfaces and distances against MONAI, SimpleITK and plain NumPy."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import HausdorffDistanceMetric, SurfaceDiceMetric, SurfaceDistanceMetric
from scipy import ndimage

from pe_unified.evaluation.surfaces import (
    surface_agreement,
    surface_distances,
    surface_voxels,
)


def blobs(seed, shape=(9, 14, 12)):
    """Two masks of smooth noise that overlap in part."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=shape), 1.5) for _ in range(2)]
    both = fields[0], fields[0] + 0.7 * fields[1]
    return [field > np.quantile(field, 0.9) for field in both]


def compared(one, other, spacing, tolerance=1.0):
    return surface_agreement(surface_voxels(one), surface_voxels(other), spacing, tolerance)


@pytest.mark.parametrize("seed", range(4))
def test_all_equal_monai(seed):
    one, other = blobs(seed)
    spacing = (2.0, 0.7, 0.9)
    tensors = [torch.from_numpy(mask)[None, None] for mask in (one, other)]
    found = compared(one, other, spacing)

    def of(metric):
        return float(metric(*tensors, spacing=spacing))

    assert found.assd_mm == pytest.approx(
        of(SurfaceDistanceMetric(include_background=True, symmetric=True)), rel=1e-5
    )
    assert found.hd95_mm == pytest.approx(
        of(HausdorffDistanceMetric(include_background=True, percentile=95)), rel=1e-5
    )
    assert found.nsd == pytest.approx(
        of(SurfaceDiceMetric(class_thresholds=[1.0], include_background=True)), rel=1e-5
    )


def test_a_mask_at_the_border_of_the_image_has_a_surface_there():
    mask = np.ones((3, 3, 3), dtype=bool)
    assert len(surface_voxels(mask)) == 26
    assert [1, 1, 1] not in surface_voxels(mask).tolist()


def test_the_largest_distance_of_masks_apart_is_that_of_simpleitk():
    """It takes whole masks; apart from each other these are farthest at their surfaces."""
    one, other = np.zeros((2, 8, 20, 20), dtype=bool)
    one[1:4, 2:6, 3:7], other[3:7, 12:18, 10:13] = True, True
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (one, other)]
    for image in images:
        image.SetSpacing((0.6, 0.8, 1.5))
    measure = sitk.HausdorffDistanceImageFilter()
    measure.Execute(*images)
    distances = surface_distances(surface_voxels(one), surface_voxels(other), (1.5, 0.8, 0.6))
    largest = max(each.max() for each in distances)
    assert largest == pytest.approx(measure.GetHausdorffDistance())


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_distances_are_those_of_every_pair(seed):
    one, other = blobs(seed, (6, 8, 7))
    spacing = np.random.default_rng(seed).uniform(0.5, 2.0, 3)
    points = [surface_voxels(mask) for mask in (one, other)]
    pairs = np.linalg.norm((points[0][:, None] - points[1][None]) * spacing, axis=2)
    forth, back = surface_distances(*points, spacing)
    np.testing.assert_allclose(forth, pairs.min(axis=1))
    np.testing.assert_allclose(back, pairs.min(axis=0))


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_identity_shift_and_exchange(seed):
    one, other = blobs(seed)
    spacing = (2.0, 0.7, 0.9)
    same = compared(one, one, spacing)
    assert (same.assd_mm, same.hd95_mm, same.nsd) == (0, 0, 1)
    there, back = compared(one, other, spacing), compared(other, one, spacing)
    assert there.assd_mm == pytest.approx(back.assd_mm)
    assert (there.hd95_mm, there.nsd) == pytest.approx((back.hd95_mm, back.nsd))
    shifted = np.zeros_like(one)
    shifted[:, 1:] = one[:, :-1]
    if not one[:, -1].any():
        moved = compared(one, shifted, spacing)
        assert 0 < moved.assd_mm <= moved.hd95_mm <= 0.7 + 1e-9


def test_the_larger_direction_is_taken():
    """A small mask within a large one is near it, and the large one far from the small."""
    one, other = np.zeros((2, 3, 30, 5), dtype=bool)
    one[1, 2:4, 2], other[1, 2:28, 2] = True, True
    found = compared(one, other, (1.0, 1.0, 1.0))
    assert found.hd95_mm == pytest.approx(np.percentile(np.r_[0, np.arange(0, 25)], 95))


def test_empty_masks_have_no_distance():
    one, empty = np.ones((2, 2, 2), dtype=bool), np.zeros((2, 2, 2), dtype=bool)
    alone, nothing = compared(one, empty, (1, 1, 1)), compared(empty, empty, (1, 1, 1))
    assert alone.nsd == 0 and np.isnan([alone.assd_mm, alone.hd95_mm]).all()
    assert np.isnan([nothing.nsd, nothing.assd_mm, nothing.hd95_mm]).all()
