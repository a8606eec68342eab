import numpy as np
import pytest
from studies import study_of, survey_of
from whole_lungs import lung_box

from pe_unified.ct.lungs import LUNG_MARGIN_MM
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey
from pe_unified.phantom.study import paint_study


@pytest.fixture(scope="module")
def painted():
    study = paint_study(4, (60, 128, 128))
    z_mm, row_mm, col_mm = study.spacing
    return study, SliceReader(study_of(study.hu, (row_mm, col_mm, z_mm)))


def test_the_crop_is_the_one_that_converted_sets_store(painted):
    study, reader = painted
    box = lung_box(study.hu, reader.study.spacing_mm, LUNG_MARGIN_MM)
    assert survey(reader).box == box


def test_slices_far_beyond_the_lungs_are_not_looked_at(painted):
    study, _ = painted
    neck = np.full((40, 128, 128), 40, np.int16)
    z_mm, row_mm, col_mm = study.spacing
    longer = study_of(np.concatenate([neck, study.hu, neck]), (row_mm, col_mm, z_mm))
    found = survey(SliceReader(longer))
    assert found.slices.start >= 40 - 15 / z_mm - 1 and found.slices.stop <= 100 + 15 / z_mm + 1
    assert set(range(45, 95)) <= set(found.slices)
    assert survey(SliceReader(longer), every_slice=True).slices == range(140)


def test_sides_follow_the_direction_of_columns(painted):
    found = survey(painted[1])
    assert 0.4 * 128 < found.middle < 0.6 * 128
    assert found.to_left == 1
    rows, cols = np.array([64, 64, 2]), np.array([32, int(found.middle), 2])
    inside = found.in_lungs(30, rows, cols)
    assert inside.tolist() == [True, False, False]


@pytest.mark.parametrize(("first", "last"), [(3, 22), (38, 57)])
def test_beside_one_lung_the_body_parts_the_sides(first, last):
    lungs = np.zeros((6, 40, 60), dtype=bool)
    lungs[:, 5:30, first:last] = True
    assert survey_of(lungs.shape, lungs).middle == 30


def test_no_lungs():
    reader = SliceReader(study_of(np.full((12, 64, 64), 40, np.int16)))
    found = survey(reader)
    assert found.lungs is None and found.box is None and found.slices == range(12)
    assert not found.in_lungs(3, np.array([5]), np.array([5])).any()
    assert found.middle == pytest.approx(32, abs=5)
