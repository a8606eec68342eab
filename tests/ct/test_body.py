import cv2
import numpy as np
import pytest

from pe_unified.ct.body import enclosed, field_of_view, find_body, shrunk

AIR, LUNG, TISSUE = -1000, -850, 40


def slab(rows=60, cols=80, levels=4, hu=AIR):
    return np.full((levels, rows, cols), hu, np.int16)


def test_dark_corners_leave_an_ellipse():
    field = field_of_view(slab())
    assert not field[0, 0] and field[30, 40] and field[30, 1:-1].all()
    assert field.mean() == pytest.approx(np.pi / 4, abs=0.06)


def test_tissue_in_the_corners_leaves_all_but_padding():
    coarse = slab(hu=TISSUE)
    assert field_of_view(coarse).all()
    coarse[:, :20, :20] = -1024
    field = field_of_view(coarse)
    assert not field[:20, :20].any() and field.sum() == field.size - 400


def test_lung_that_the_rim_cuts_is_enclosed_and_the_air_beside_the_body_is_not():
    coarse = slab(hu=TISSUE)
    coarse[:, 20:40, :25] = LUNG
    coarse[:, :6] = AIR
    dark = find_body(coarse).dark
    assert dark[:, 20:40, :25].all() and dark.sum() == 4 * 20 * 25


def test_a_body_cut_into_chest_wall_and_heart_is_one():
    coarse = slab(hu=LUNG)
    coarse[:, :, :15] = coarse[:, :, 50:] = TISSUE  # the wall, the heart
    coarse[:, 10:13, 20:23] = TISSUE  # a vessel
    tissue = find_body(coarse).tissue
    assert tissue[:, :, :15].all() and tissue[:, :, 50:].all()
    assert not tissue[:, :, 20:23].any()


def test_enclosed_and_shrunk():
    ring = np.zeros((20, 20), np.uint8)
    cv2.rectangle(ring, (4, 4), (12, 12), 1)
    filled = enclosed(ring > 0)
    assert filled[4:13, 4:13].all() and filled.sum() == 81
    assert shrunk(filled).sum() == 49
    assert shrunk(np.ones((5, 5), bool)).sum() == 9
