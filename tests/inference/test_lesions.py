"""Lesions against scipy's labelling of the whole volume, and against bodies of known size."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from studies import SPACING, study_of, survey_of

from pe_unified.inference import joining
from pe_unified.inference.lesion_marks import LesionMark
from pe_unified.inference.lesions import find_lesions
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.slice_prediction import SlicePrediction


def predictions_of(probability, threshold=0.5, boxes=None):
    found = []
    for index, level in enumerate(probability):
        flat = np.flatnonzero(level >= threshold).astype(np.int32)
        own = (boxes or {}).get(index, [])
        found.append(
            SlicePrediction(
                index=index,
                probability=0.5,
                examined=True,
                pixels=flat,
                pixel_probability=level.ravel()[flat].astype(np.float32),
                boxes=np.array([box for box, _ in own], np.float32).reshape(-1, 4),
                scores=np.array([score for _, score in own], np.float32),
            )
        )
    return found


def lesions_of(probability, hu=None, boxes=None, smallest_ml=0.0, **options):
    hu = np.zeros(probability.shape, np.int16) if hu is None else hu
    reader = SliceReader(study_of(hu, **options))
    found = predictions_of(probability, boxes=boxes)
    return find_lesions(found, reader, survey_of(probability.shape), smallest_ml)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), density=st.floats(0.02, 0.3))
def test_pixels_join_as_26_neighbours_do(seed, density):
    rng = np.random.default_rng(seed)
    volume = (rng.random((7, 12, 15)) < density) * rng.uniform(0.5, 1, (7, 12, 15))
    labels, count = ndimage.label(volume > 0, structure=np.ones((3, 3, 3)))
    lesions = lesions_of(volume)
    assert len(lesions) == count
    joined = np.zeros_like(labels)
    for lesion in lesions:
        for index, pixels in lesion.pixels.items():
            joined[index].ravel()[pixels] = lesion.number
    pairs = {(a, b) for a, b in zip(labels.ravel(), joined.ravel()) if a or b}
    assert len(pairs) == count  # one to one
    for lesion in lesions:
        where = joined == lesion.number
        assert lesion.score == pytest.approx(volume[where].mean(), abs=1e-5)
        assert lesion.volume_ml == pytest.approx(where.sum() * np.prod(SPACING) / 1000)
        assert lesion.centroid == pytest.approx(ndimage.center_of_mass(where))
        assert lesion.slices == (np.nonzero(where)[0].min(), np.nonzero(where)[0].max())
    assert [lesion.score for lesion in lesions] == sorted((x.score for x in lesions), reverse=True)


def test_a_block_of_known_size():
    probability = np.zeros((8, 30, 60))
    hu = np.full(probability.shape, 300, np.int16)
    probability[2:6, 10:15, 50:53] = 0.9
    hu[2:6, 10:15, 50:53] = 60
    hu[5, 10, 50] = 80
    (lesion,) = lesions_of(probability, hu)
    assert lesion.volume_ml == pytest.approx(4 * 5 * 3 * 0.8 * 0.6 * 2 / 1000)
    # From corner to opposite corner: 4 slices, 5 rows, 3 columns.
    assert lesion.diameter_mm == pytest.approx(np.hypot(np.hypot(4 * 2, 5 * 0.8), 3 * 0.6))
    assert lesion.mean_hu == pytest.approx(60 + 20 / 60)
    assert lesion.box == (50, 10, 53, 15) and lesion.key_slice == 2
    assert lesion.centroid_mm == pytest.approx((-10 + 51 * 0.6, -20 + 12 * 0.8, -300 + 3.5 * 2))
    assert lesion.side == "left" and lesion.level == "segmental"


def test_sides_and_levels():
    probability = np.zeros((3, 20, 60))
    probability[1, 5:7, 5:7] = 0.9
    probability[1, 5:7, 29:31] = 0.8
    first, second = lesions_of(probability)
    assert (first.side, first.level) == ("right", "segmental")
    assert (second.side, second.level) == ("midline", "central")


def test_thicker_gaps_count_for_more():
    """Slices at 0, 2, 4 and 10 mm: the middle ones stand for 2 and 4 mm."""
    probability = np.zeros((4, 10, 10))
    probability[1:3, 4, 4] = 0.9
    (lesion,) = lesions_of(probability, z=(0.0, 2.0, 4.0, 10.0))
    assert lesion.volume_ml == pytest.approx((2 + 4) * 0.8 * 0.6 / 1000)


def test_places_are_those_of_the_slices():
    """Slices at 0, 2, 4 and 14 mm, the uppermost shifted: what lies there is measured there."""
    probability = np.zeros((4, 10, 10))
    probability[2:4, 4, 4] = 0.9
    hu = np.zeros(probability.shape, np.int16)
    places = np.array([[-10.0, -20.0, z] for z in (0.0, 2.0, 4.0, 14.0)])
    places[3, 0] += 3.0
    study = replace(study_of(hu), places_mm=places)
    found = predictions_of(probability)
    (lesion,) = find_lesions(found, SliceReader(study), survey_of(hu.shape), 0.0)
    assert lesion.centroid_mm == pytest.approx((-10 + 1.5 + 4 * 0.6, -20 + 4 * 0.8, 9.0))
    # From the lower corner of the one voxel to the upper corner of the other.
    assert lesion.diameter_mm == pytest.approx(np.hypot(np.hypot(10 + 2, 0.8), 3 + 0.6))


def test_masks_of_one_slice_are_not_compared(monkeypatch):
    """They never belong together, and of thousands of specks there are millions of pairs."""
    compared = []
    monkeypatch.setattr(joining, "belong", lambda *pair: compared.append(pair))
    probability = np.zeros((2, 16, 16))
    probability[0, ::2, ::2] = 0.9
    assert len(lesions_of(probability)) == 8 * 8
    assert not compared


def test_a_box_joins_the_mask_in_it_also_on_the_next_slice():
    probability = np.zeros((5, 30, 30))
    probability[2, 10:14, 10:14] = 0.7
    boxes = {2: [((9, 9, 15, 15), 0.9)], 3: [((9, 9, 15, 15), 0.95), ((20, 20, 25, 25), 0.6)]}
    first, second = lesions_of(probability, boxes=boxes)
    assert (first.mask_score, first.box_score) == pytest.approx((0.7, 0.95))
    assert first.slices == (2, 3) and first.key_slice == 2
    assert second.mask_score is None and second.volume_ml is None and second.mean_hu is None
    assert second.box == (20, 20, 25, 25) and second.slices == (3, 3)


def test_a_box_or_mark_over_lung_alone_cannot_be_a_clot():
    hu = np.full((4, 30, 30), -700, np.int16)
    hu[2, 20:24, 20:24] = 300
    hu[2, 21:23, 21:23] = 50
    boxes = {0: [((5, 5, 15, 15), 0.99)], 2: [((20, 20, 24, 24), 0.6)]}
    reader = SliceReader(study_of(hu))
    found = predictions_of(np.zeros(hu.shape), boxes=boxes)
    marks = [LesionMark(tuple(reader.study.positions_mm(np.array([[3.0, 9, 9]]))[0]), 0.9)]
    lesions = find_lesions(found, reader, survey_of(hu.shape), marks=marks)
    assert [(each.key_slice, each.can_be_clot) for each in lesions] == [
        (2, True),
        (0, False),
        (3, False),
    ]


def test_boxes_of_neighbouring_slices_are_one_lesion_while_they_overlap():
    boxes = {k: [((5 + k, 5, 15 + k, 15), 0.5 + 0.1 * k)] for k in range(4)}
    boxes[3] = [((25, 25, 29, 29), 0.9)]
    lesions = lesions_of(np.zeros((4, 30, 30)), boxes=boxes)
    assert [lesion.slices for lesion in lesions] == [(3, 3), (0, 2)]
    assert lesions[1].box_score == pytest.approx(0.7)


def test_specks_without_a_box_are_left_out():
    probability = np.zeros((3, 30, 30))
    probability[1, 5, 5] = probability[1, 20, 20] = 0.9
    boxes = {1: [((18, 18, 23, 23), 0.6)]}
    (lesion,) = lesions_of(probability, boxes=boxes, smallest_ml=0.01)
    assert lesion.box_score == pytest.approx(0.6)


def test_a_hole_between_slices_parts_lesions():
    """Slices that nobody looked at join nothing."""
    probability = np.zeros((5, 10, 10))
    probability[1, 4, 4] = probability[3, 4, 4] = 0.9
    found = predictions_of(probability)
    reader = SliceReader(study_of(np.zeros(probability.shape, np.int16)))
    survey = survey_of(probability.shape)
    assert len(find_lesions([found[1], found[3]], reader, survey, 0.0)) == 2


def test_a_lesion_is_as_sure_as_the_surer_of_mask_and_box_and_shown_where_most_of_it_is():
    probability = np.zeros((8, 20, 20))
    probability[2:6, 10:12, 10:12] = 0.7
    probability[4, 9:13, 9:13] = 0.7
    for box_score, score in ((0.95, 0.95), (0.3, 0.7)):
        (lesion,) = lesions_of(probability, boxes={4: [((9, 9, 13, 13), box_score)]})
        assert lesion.score == pytest.approx(score)
        assert lesion.key_slice == 4
