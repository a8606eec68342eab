"""The crop of a study from a detector's boxes, and what else follows from them."""

import numpy as np
import pytest
from studies import study_of

from pe_unified.ct.lungs import LUNG_MARGIN_MM
from pe_unified.errors import CheckpointError
from pe_unified.inference.lung_sources import lung_source
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey
from pe_unified.phantom.study import paint_study


class Finder:
    """Says what it is told to, of the slices that it is asked for."""

    def __init__(self, box, shows=lambda index: True):
        self.box, self.shows, self.asked = box, shows, None

    def boxes(self, reader, slices):
        self.asked = list(slices)
        nothing = [np.nan] * 4
        return np.array([self.box if self.shows(k) else nothing for k in slices], dtype=float)


@pytest.fixture(scope="module")
def reader():
    study = paint_study(4, (40, 96, 96))
    z_mm, row_mm, col_mm = study.spacing
    return SliceReader(study_of(study.hu, (row_mm, col_mm, z_mm)))


def test_crop_and_slices_are_of_the_boxes(reader):
    row_mm, col_mm, step_mm = reader.study.known_spacing()
    finder = Finder([30, 20, 70, 60], lambda index: 10 <= index < 30)
    found = survey(reader, finder=finder)
    assert found.source == "detector" and finder.asked == list(range(0, 40, found.cell[0]))
    x, y, wide, high = found.box
    down, across = round(LUNG_MARGIN_MM / row_mm), round(LUNG_MARGIN_MM / col_mm)
    assert abs(x - (30 - across)) <= 1 and abs(y - (20 - down)) <= 1
    assert abs(wide - (40 + 2 * across)) <= 1 and abs(high - (40 + 2 * down)) <= 1
    beyond = round(15 / step_mm)
    shown = [k for k in finder.asked if 10 <= k < 30]
    assert found.slices.start == max(0, shown[0] - beyond)
    assert found.slices.stop == min(40, shown[-1] + found.cell[0] + beyond)
    # Sides go on following from the lungs that the thresholds see.
    np.testing.assert_array_equal(found.lungs, survey(reader, lungs_from="classical").lungs)
    assert survey(reader, every_slice=True, finder=finder).slices == range(40)


def test_without_lungs_for_the_thresholds_there_is_a_crop():
    """As of consolidated lungs, or pictures that are no Hounsfield units."""
    reader = SliceReader(study_of(np.full((20, 64, 64), 40, np.int16)))
    assert survey(reader).box is None
    found = survey(reader, finder=Finder([10, 10, 50, 50]))
    assert found.lungs is None and found.box is not None and found.source == "detector"


def test_where_it_sees_none_the_thresholds_count(reader):
    nothing = survey(reader, finder=Finder([0, 0, 9, 9], lambda index: False))
    usual = survey(reader, lungs_from="classical")
    assert (nothing.box, nothing.slices) == (usual.box, usual.slices)


def test_which_source_is_taken():
    assert lung_source("auto", detector=True) == lung_source("detector", True) == "detector"
    assert lung_source("classical", detector=True) == "classical"
    with pytest.raises(CheckpointError, match="--lung-checkpoint"):
        lung_source("detector")
