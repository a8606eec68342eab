"""What the scanner adds to a painted slice."""

from dataclasses import replace

import numpy as np
import pytest

from pe_unified.phantom.grid import Grid
from pe_unified.phantom.scanner import Scanner
from pe_unified.phantom.study_plan import PaintingPlan, plan_study

GRID = Grid((24, 128, 128), (2.0, 0.75, 0.75), (-47.6, -47.6, 0.0))
NOWHERE = np.full((24, 2), np.nan)


def _plan(**changes) -> PaintingPlan:
    quiet = {"qa_motion": False, "noise_hu": 0.0, "svc_hu": 300.0, "sharpness_mm": 0.4}
    return replace(plan_study(3, positive=False), **(quiet | changes))


def _scan(plan: PaintingPlan, plane: np.ndarray, dense: np.ndarray = NOWHERE) -> np.ndarray:
    scanner = Scanner(plan, GRID, dense)
    return np.stack([scanner.scan(plane.copy(), k) for k in range(GRID.shape[0])])


@pytest.fixture
def water() -> np.ndarray:
    return np.zeros(GRID.shape[1:], dtype=np.float32)


def test_air_outside_the_round_field(water: np.ndarray) -> None:
    hu = _scan(_plan(), water)
    assert hu.dtype == np.int16
    assert (hu[:, 0, 0] == -1024).all()
    assert (hu[:, 64, 64] == 0).all()


def test_noise_has_the_planned_size_and_grain(water: np.ndarray) -> None:
    centre = _scan(_plan(noise_hu=20.0), water)[:, 44:84, 44:84].astype(float)
    # At pixels of 0.75 mm, near the middle of the field, 1.2 times the planned level.
    assert centre.std() == pytest.approx(24, rel=0.15)
    assert abs(centre.mean()) < 2
    beside = np.corrcoef(centre[:, :, 1:].ravel(), centre[:, :, :-1].ravel())[0, 1]
    assert 0.2 < beside < 0.9


def test_large_pixels_average_noise(water: np.ndarray) -> None:
    coarse = Grid(GRID.shape, (5.0, 3.0, 3.0), (-190.0, -190.0, 0.0))
    scanner = Scanner(_plan(noise_hu=20.0), coarse, NOWHERE)
    hu = np.stack([scanner.scan(water.copy(), k) for k in range(24)])
    assert hu[:, 54:74, 54:74].std() < 16


def test_streaks_come_from_dense_contrast_only(water: np.ndarray) -> None:
    dense = NOWHERE.copy()
    dense[10] = (0.0, 0.0)
    hu = _scan(_plan(svc_hu=1400.0, streaks=1.0), water, dense)
    inside = hu[:, 34:94, 34:94]
    assert np.ptp(inside[10]) > 40
    assert not inside[np.arange(24) != 10].any()
    assert not _scan(_plan(svc_hu=400.0, streaks=1.0), water, dense)[10, 34:94, 34:94].any()


def test_motion_doubles_contours_in_some_slices_and_keeps_the_mass(water: np.ndarray) -> None:
    water[20:36, 60:68] = 400
    still, moved = _scan(_plan(), water), _scan(_plan(qa_motion=True), water)
    assert (still == still[0]).all()
    changed = (moved != still).any((1, 2))
    assert changed.any()
    inner = np.s_[:, 12:48, 44:84]
    mass = moved[inner].sum((1, 2), dtype=float)
    assert mass == pytest.approx(still[inner].sum((1, 2), dtype=float), rel=0.05)
    assert moved[changed].max() < still.max() + 1
