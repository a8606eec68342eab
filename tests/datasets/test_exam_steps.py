import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_unified.datasets import FeatureError, FeatureStore
from pe_unified.datasets.exam_steps import (
    ChunkSteps,
    LungSlices,
    SliceSteps,
    Step,
    span_of,
    spread,
    step_label,
)
from pe_unified.datasets.feature_store import FeatureSource, stored_name


def slices_at(positions, shares=None):
    shares = [0.3] * len(positions) if shares is None else shares
    return [{"z_mm": z, "lung_share": share} for z, share in zip(positions, shares)]


def position_of(plane, slices):
    assert sum(share for _, share in plane) == pytest.approx(1)
    return sum(share * slices[index]["z_mm"] for index, share in plane)


def test_the_lungs_reach_from_their_first_to_their_last_slice():
    shares = [0, 0.001, 0.1, 0.4, 0, 0.3, 0.03, 0.01, 0]
    slices = slices_at(range(9), shares)
    assert span_of(slices, "lungs") == (2, 6)
    assert span_of(slices, "all") == (0, 8)
    low, high = span_of(slices, "heart")
    assert 2 <= low < high <= 4
    assert span_of(slices_at(range(5), [None] * 5), "lungs") == (0, 4)


def test_a_slice_keeps_its_neighbours():
    slices = slices_at(range(100))
    steps = SliceSteps(neighbours=1).steps_of(slices)
    assert [step.middle for step in steps] == list(range(100))
    assert steps[5].planes == tuple(((5 + d, 1.0),) for d in (-1, 0, 1))
    assert steps[0].planes[0] == ((0, 1.0),)  # nothing lies below: the lowest is repeated
    assert steps[-1].planes[2] == ((99, 1.0),)


@given(steps=st.integers(0, 400), most=st.integers(1, 50))
def test_steps_are_spread_evenly_from_end_to_end(steps, most):
    kept = spread(steps, most)
    assert len(kept) == min(steps, most) and spread(steps, None) == list(range(steps))
    if steps > most > 1:
        assert (kept[0], kept[-1]) == (0, steps - 1)
        assert max(np.diff(kept)) - min(np.diff(kept)) <= 1


def test_the_slices_with_most_lung_are_taken_in_order():
    slices = slices_at(range(6), [0.1, 0.5, None, 0.4, 0.3, 0.0])
    assert [step.middle for step in LungSlices(3).steps_of(slices)] == [1, 3, 4]
    assert len(LungSlices(20).steps_of(slices)) == 6


def of_exam(slices, study="1.2.3"):
    of_set = {"study_uid": study, "img_path": "0.png", "lung_box": None}
    return [{**each, **of_set} for each in slices]


SHARES = [0.5, 0.0, 0.4, 0.1, 0.0, 0.3]


@pytest.fixture
def scores(tmp_path):
    """Scores of one exam, against the shares of its slices."""
    source = FeatureSource({"type": "ClassifierEncoder"}, "w", [], {"type": "SliceSteps"}, {})
    store = FeatureStore.create(tmp_path, source)
    name = stored_name("1.2.3", of_exam(slices_at(range(6), SHARES)))
    store.write(name, np.array([[-2.0], [9.0], [-7.5], [8.5], [0.5], [-9.0]]))
    return store


def test_a_classifier_chooses_where_its_scores_are_stored(scores):
    slices = slices_at(range(6), SHARES)
    steps = LungSlices(3, scores=str(scores.folder))
    assert [step.middle for step in steps.steps_of(of_exam(slices))] == [1, 3, 4]
    # A study has no scores, and no UID of an exam of the set.
    assert [step.middle for step in steps.steps_of(slices)] == [0, 2, 5]
    assert [step.middle for step in LungSlices(3).steps_of(of_exam(slices))] == [0, 2, 5]


def test_scores_that_are_none_are_refused(scores, tmp_path):
    steps = LungSlices(3, scores=str(scores.folder))
    with pytest.raises(FeatureError, match="no features of study 7"):
        steps.steps_of(of_exam(slices_at(range(6)), "7"))
    with pytest.raises(FeatureError, match=r"no features of study 1\.2\.3 as it is now"):
        steps.steps_of(of_exam(slices_at(range(6), [0.6, *SHARES[1:]])))  # other pixels
    scores.write(stored_name("8", of_exam(slices_at(range(6)))), np.zeros((6, 4)))
    with pytest.raises(FeatureError, match="4 numbers per slice, where one score of lung"):
        steps.steps_of(of_exam(slices_at(range(6)), "8"))
    with pytest.raises(FeatureError, match="no features at"):
        LungSlices(3, scores=str(tmp_path / "none")).steps_of(of_exam(slices_at(range(6))))


@given(
    gaps=st.lists(st.floats(0.3, 6.0), min_size=1, max_size=60),
    planes=st.integers(1, 12),
    spacing=st.floats(0.5, 4.0),
)
def test_planes_of_chunks_lie_at_equal_distances_whatever_the_slices(gaps, planes, spacing):
    z = np.concatenate([[-300.0], -300 + np.cumsum(gaps)])
    slices = slices_at(z.tolist())
    steps = ChunkSteps(planes=planes, spacing_mm=spacing).steps_of(slices)
    seen = [position_of(plane, slices) for step in steps for plane in step.planes]
    count = int((z[-1] - z[0]) / spacing + 1e-3) + 1
    assert len(steps) == math.ceil(count / planes)
    expected = z[0] + np.minimum(np.arange(len(seen)), count - 1) * spacing
    np.testing.assert_allclose(seen, expected, atol=0.02)  # the last chunk repeats its last plane
    for step in steps:  # a plane carries the label of the slice nearest to it
        for plane in step.planes:
            nearest = np.abs(z - position_of(plane, slices)).min()
            assert (
                min(abs(z[k] - position_of(plane, slices)) for k in step.labelled) <= nearest + 0.02
            )


def test_every_slice_near_a_plane_is_labelled_once_it_is_seen():
    slices = slices_at([0.0, 2.5, 5.0, 7.5])
    (step,) = ChunkSteps(planes=8, spacing_mm=1.0).steps_of(slices)
    assert step.labelled == (0, 1, 2, 3)


def test_without_positions_or_spacing_slices_are_the_planes():
    unknown = slices_at([None] * 7)
    for steps in (
        ChunkSteps(planes=3).steps_of(unknown),
        ChunkSteps(planes=3, spacing_mm=None).steps_of(slices_at(range(0, 35, 5))),
    ):
        planes = [[plane[0][0] for plane in step.planes] for step in steps]
        assert planes == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]


def test_a_step_shows_embolism_where_any_of_its_slices_does():
    step = Step((), 0, (0, 1, 2))
    assert step_label(step, [0, 1, None]) == 1
    assert step_label(step, [0, 0, 0, 1]) == 0
    assert math.isnan(step_label(step, [0, None, 0]))


def test_a_chunk_has_planes_at_a_distance():
    with pytest.raises(ValueError, match="planes must be at least 1"):
        ChunkSteps(spacing_mm=0)
