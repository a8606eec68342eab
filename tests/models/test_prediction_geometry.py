"""Whatever was cropped, resized and padded, predictions lie where they belong in the slice."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.models.slice_geometry import SliceGeometry

CROPS = st.tuples(
    st.integers(-9, 30), st.integers(-9, 30), st.integers(1, 40), st.integers(1, 40)
).map(lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3]))


def _geometry(crop, zoom=(1, 1), ori=(48, 56)) -> SliceGeometry:
    x0, y0, x1, y1 = crop
    return SliceGeometry(ori, crop, ((y1 - y0) * zoom[0], (x1 - x0) * zoom[1]))


def _seen(plane: np.ndarray, crop) -> np.ndarray:
    """The crop of a slice, zeros where it reaches beyond; pixel by pixel."""
    x0, y0, x1, y1 = crop
    out = np.zeros((y1 - y0, x1 - x0), plane.dtype)
    for row in range(y0, y1):
        for col in range(x0, x1):
            if 0 <= row < plane.shape[0] and 0 <= col < plane.shape[1]:
                out[row - y0, col - x0] = plane[row, col]
    return out


@settings(max_examples=60)
@given(
    crop=CROPS,
    zoom=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    seed=st.integers(0, 2**16),
)
def test_maps_return_exactly(crop, zoom, padding, seed):
    plane = (np.random.default_rng(seed).random((48, 56)) < 0.3).astype(np.float32)
    seen = _seen(plane, crop)
    shown = np.kron(seen, np.ones(zoom, np.float32))
    padded = np.pad(shown, ((0, padding[0]), (0, padding[1])), constant_values=9.0)
    back = _geometry(crop, zoom).map_to_slice(torch.from_numpy(padded)[None])[0].numpy()
    x0, y0, x1, y1 = (max(0, edge) for edge in crop)
    golden = np.zeros_like(plane)
    golden[y0:y1, x0:x1] = plane[y0:y1, x0:x1]
    np.testing.assert_allclose(back, golden, atol=1e-6)


@settings(max_examples=60)
@given(
    crop=CROPS,
    zoom=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    corner=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    sides=st.tuples(st.integers(1, 16), st.integers(1, 8)),
)
def test_boxes_return_exactly(crop, zoom, corner, sides):
    x, y = corner
    box = np.array([x, y, x + sides[0], y + sides[1]], np.float64)
    shown = box.copy()
    shown[[0, 2]] = (box[[0, 2]] - crop[0]) * zoom[1]
    shown[[1, 3]] = (box[[1, 3]] - crop[1]) * zoom[0]
    back = _geometry(crop, zoom).boxes_to_slice(torch.from_numpy(shown[None]).float())
    np.testing.assert_allclose(back[0].numpy(), box, atol=1e-4)


def test_boxes_are_clipped_to_the_slice():
    back = _geometry((40, 40, 60, 60)).boxes_to_slice(torch.tensor([[-50.0, -50, 18, 18]]))
    assert back.tolist() == [[0, 0, 56, 48]]


def test_no_boxes():
    assert _geometry((0, 0, 8, 8)).boxes_to_slice(torch.zeros(0, 4)).shape == (0, 4)


def test_what_the_metainfo_leaves_out_was_not_done():
    geometry = SliceGeometry.of(PEDataSample(metainfo=dict(img_shape=(20, 30))))
    assert geometry == SliceGeometry((20, 30), (0, 0, 30, 20), (20, 30))
    resized = SliceGeometry.of(PEDataSample(metainfo=dict(img_shape=(20, 30), ori_shape=(40, 90))))
    assert resized.scale == (30 / 90, 20 / 40)


def test_refuses_what_cannot_be_placed():
    with pytest.raises(KeyError, match="img_shape"):
        SliceGeometry.of(PEDataSample())
    with pytest.raises(ValueError, match=r"crop_box \(5, 5, 5, 9\) is empty"):
        SliceGeometry.of(PEDataSample(metainfo=dict(img_shape=(4, 4), crop_box=(5, 5, 5, 9))))
