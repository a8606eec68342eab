import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.evaluation.components import find_lesions


def test_connectivity_decides_what_touches():
    mask = np.zeros((4, 6, 6), dtype=bool)
    mask[0, 0, 0] = mask[0, 1, 0] = True  # by a face
    mask[0, 2, 1] = True  # by an edge
    mask[1, 3, 2] = True  # by a corner
    counts = {kind: len(find_lesions(mask, 0.5, kind)) for kind in (6, 18, 26)}
    assert counts == {6: 3, 18: 2, 26: 1}
    (whole,) = find_lesions(mask, 0.5, 26).volumes_mm3
    assert whole == 2.0


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([6, 26]))
def test_components_are_those_of_simpleitk(seed, connectivity):
    mask = np.random.default_rng(seed).random((5, 7, 6)) < 0.25
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    theirs = sitk.GetArrayFromImage(sitk.ConnectedComponent(image, connectivity == 26))
    found = find_lesions(mask, 1.0, connectivity)
    assert sorted(found.voxels) == sorted(np.bincount(theirs.ravel())[1:])
    points = np.argwhere(mask)
    pairs = set(zip(found.at(points).tolist(), theirs[tuple(points.T)].tolist()))
    assert len(pairs) == len(found), "each of ours is one of theirs"


def test_numbers_are_lesions_however_they_lie():
    labels = np.zeros((3, 8, 8), dtype=np.uint16)
    labels[0, 0, 0] = labels[2, 7, 7] = 40  # one in two parts
    labels[0, 0, 1] = 7  # touches it
    found = find_lesions(labels, 2.0, numbered=True)
    assert found.volumes_mm3.tolist() == [2.0, 4.0]
    assert found.at(np.array([[0, 0, 0], [2, 7, 7], [0, 0, 1], [1, 1, 1], [9, 9, 9]])).tolist() == [
        *(2, 2, 1, 0, 0)
    ]
    full = find_lesions(np.full((2, 2, 2), 3), 1.0, numbered=True)
    assert full.voxels.tolist() == [8], "no background in sight"


def test_an_empty_mask_has_none():
    found = find_lesions(np.zeros((4, 4, 4), dtype=bool), 1.0)
    assert len(found) == 0 and not len(found.points()) and not len(found.surface())


@pytest.mark.parametrize("start", [(0, 0, 0), (2, 3, 1)])
def test_points_are_those_of_the_scan(start):
    mask = np.zeros((6, 8, 7), dtype=bool)
    mask[tuple(slice(a, a + 3) for a in start)] = True
    found = find_lesions(mask, 1.0)
    np.testing.assert_array_equal(found.points(), np.argwhere(mask))
    assert len(found.surface()) == 26
