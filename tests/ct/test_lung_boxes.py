"""Boxes around lungs on single slices of a painted study, and the crop of many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_lungs import lung_box, lung_mask

from pe_unified.ct.lung_boxes import crop_of_boxes, lung_box_of_slice
from pe_unified.phantom.study import paint_study


@pytest.fixture(scope="module")
def painted():
    study = paint_study(4, (12, 96, 96))
    z_mm, row_mm, col_mm = study.spacing
    spacing = (row_mm, col_mm, z_mm)
    return study.hu, spacing, lung_mask(study.hu, spacing), lung_box(study.hu, spacing)


def test_a_box_is_that_of_the_lungs_of_the_whole_study(painted):
    hu, spacing, mask, around = painted
    compared = 0
    for level, lungs in zip(hu, mask, strict=True):
        if lungs.sum() < 0.4 * mask.sum(axis=(1, 2)).max():
            continue
        rows, cols = (np.flatnonzero(lungs.any(axis=axis)) for axis in (1, 0))
        truth = np.array([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1])
        found = lung_box_of_slice(level, spacing, around)
        # Within two cells of the grid, of 3 mm.
        assert np.abs(found - truth).max() * max(spacing[:2]) <= 6.5
        compared += 1
    assert compared >= 5


def test_nothing_is_seen_where_there_is_no_lung(painted):
    hu, spacing, _, around = painted
    tissue = np.full_like(hu[0], 40)
    assert lung_box_of_slice(tissue, spacing, around) is None
    assert lung_box_of_slice(np.full_like(hu[0], -1000), spacing, around) is None  # air alone


def test_a_few_odd_slices_move_the_crop_little():
    boxes = np.tile([100.0, 80, 400, 380], (60, 1))
    boxes[:2] = [0, 0, 512, 512]
    assert crop_of_boxes(boxes, (512, 512)) == (100, 80, 300, 300)
    assert crop_of_boxes(boxes, (512, 512), (10, 5)) == (95, 70, 310, 320)
    assert crop_of_boxes(boxes, (384, 404), (10, 5)) == (95, 70, 309, 314)


@given(seed=st.integers(0, 1000), count=st.integers(1, 40))
def test_a_crop_lies_in_the_slice_and_holds_most_boxes(seed, count):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 24, (count, 2))], axis=1)
    x, y, wide, high = crop_of_boxes(boxes, (64, 64), (1, 1))
    assert x >= 0 and y >= 0 and x + wide <= 64 and y + high <= 64
    for edge, beyond in ((x, boxes[:, 0]), (y, boxes[:, 1])):
        assert (beyond < edge).mean() <= 0.05
