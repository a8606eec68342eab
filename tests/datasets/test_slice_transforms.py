import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.datasets.slice_transforms import (
    CropToLungs,
    RandomSliceGeometry,
    ResizeSlice,
    _boxes_of_sources,
    boxes_of_instances,
)


def sample(size=96, channels=1, seed=0, masks=True, rng_seed=0):
    """A slice whose HU is 1000 exactly where an embolus is."""
    rng = np.random.default_rng(seed)
    instances = np.zeros((size, size), dtype=np.uint16)
    for number in (1, 2, 3):
        centre = tuple(int(v) for v in rng.integers(size // 4, 3 * size // 4, 2))
        cv2.ellipse(instances, centre, (9, 6), float(rng.integers(180)), 0, 360, number, -1)
    hu = np.where(instances > 0, 1000, 0).astype(np.int16)
    return dict(
        hu=np.repeat(hu[..., None], channels, axis=-1),
        instance_map=instances if masks else None,
        boxes=boxes_of_instances(instances),
        img_shape=(size, size),
        ori_shape=(size, size),
        crop_box=(0, 0, size, size),
        scale_factor=(1.0, 1.0),
        spacing_mm=[0.7, 0.7, 1.0],
        lung_box=[size // 8, size // 6, size // 2, size // 3],
        rng=np.random.default_rng(rng_seed),
    )


def overlap(results):
    """IoU of the image's embolus pixels and the mask's."""
    seen, labelled = results["hu"][..., 0] > 500, results["instance_map"] > 0
    return (seen & labelled).sum() / max((seen | labelled).sum(), 1)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), elastic=st.sampled_from([0.0, 1.0]))
def test_masks_and_boxes_follow_the_image(seed, elastic):
    results = RandomSliceGeometry(elastic=elastic, rotate=30, shift=0.1).transform(
        sample(seed=seed, rng_seed=seed)
    )
    assert results["hu"].shape == (96, 96, 1)
    assert overlap(results) > 0.8
    np.testing.assert_array_equal(results["boxes"], boxes_of_instances(results["instance_map"]))


@pytest.mark.parametrize("elastic", [0.0, 1.0])
def test_boxes_without_masks_are_as_large_as_those_of_the_masks(elastic):
    """The box of the turned corners would be larger, by a pixel on each side on average."""
    differences = []
    for seed in range(60):
        transform = RandomSliceGeometry(rotate=20, shift=0, scale=(0.8, 0.9), elastic=elastic)
        golden = transform.transform(sample(seed=seed, rng_seed=seed))["boxes"]
        boxes = transform.transform(sample(seed=seed, rng_seed=seed, masks=False))["boxes"]
        assert boxes.dtype == np.float32 and (boxes >= 0).all() and (boxes <= 96).all()
        differences.append((boxes - golden) * [-1, -1, 1, 1])
    assert abs(np.mean(differences)) < 0.3
    assert np.percentile(np.abs(differences), 95) < 1.5


def labelled(kinds, rng_seed):
    """A noisy slice, always the same, of which only the given kinds of labels are known."""
    results = sample(channels=3, rng_seed=rng_seed)
    results["hu"] = np.random.default_rng(5).integers(-1000, 1000, results["hu"].shape, np.int16)
    if kinds == "masks, no embolus":
        results["instance_map"] = np.zeros_like(results["instance_map"])
        results["boxes"] = np.empty((0, 4), dtype=np.float32)
    if kinds in ("slice", "boxes"):
        results["instance_map"] = None
    if kinds == "slice":
        results["boxes"] = None
    return results


def test_the_draw_alone_decides_whatever_labels_are_known():
    """Else the network could tell a positive slice without masks by its not being deformed."""
    transform = RandomSliceGeometry(elastic=0.3)
    draw_sources, deformed = transform._elastic_sources, []
    transform._elastic_sources = lambda *words: deformed.append(1) or draw_sources(*words)
    first = {}
    for kinds in ("masks", "masks, no embolus", "boxes", "slice"):
        deformed.clear()
        for seed in range(40):
            moved = transform.transform(labelled(kinds, seed))
            next_draw = moved["rng"].random()
            pixels, expected_draw = first.setdefault(seed, (moved["hu"], next_draw))
            np.testing.assert_array_equal(moved["hu"], pixels)
            assert next_draw == expected_draw
        assert 5 < len(deformed) < 20


def test_thin_boxes_outlive_a_deformation_that_moves_nothing():
    """Although only pixel centres are looked up."""
    boxes = np.array([[10, 10, 12, 110], [20, 20, 20.7, 20.7], [30, 30, 90, 80]], np.float32)
    y, x = np.mgrid[:128, :128].astype(np.float32)
    same = _boxes_of_sources(boxes, x, y)
    assert len(same) == 3 and np.abs(same - boxes).max() <= 4


def test_a_deformed_box_out_of_view_goes():
    results = sample(masks=False)
    results["boxes"] = np.array([[0, 0, 6, 6], [40, 40, 60, 60]], dtype=np.float32)
    zoom = RandomSliceGeometry(flip=0, rotate=0, scale=(2, 2), shift=0, elastic=1.0)
    (box,) = zoom.transform(results)["boxes"]
    assert box == pytest.approx([32.5, 32.5, 72.5, 72.5], abs=9)


def test_flip_alone_is_exact():
    before = sample(channels=3)
    flipped = RandomSliceGeometry(flip=1.0, rotate=0, scale=(1, 1), shift=0).transform(
        sample(channels=3)
    )
    np.testing.assert_array_equal(flipped["hu"], before["hu"][:, ::-1])
    np.testing.assert_array_equal(flipped["instance_map"], before["instance_map"][:, ::-1])
    boxes_only = RandomSliceGeometry(flip=1.0, rotate=0, scale=(1, 1), shift=0).transform(
        sample(masks=False)
    )
    np.testing.assert_allclose(boxes_only["boxes"], flipped["boxes"], atol=1e-4)


def test_many_neighbours_are_moved_alike():
    results = RandomSliceGeometry(elastic=1.0).transform(sample(channels=7))
    assert results["hu"].shape == (96, 96, 7)
    assert (results["hu"] == results["hu"][..., :1]).all()


def test_outside_is_air():
    results = RandomSliceGeometry(flip=0, rotate=0, scale=(0.5, 0.5), shift=0).transform(
        sample(channels=5)
    )
    assert (results["hu"][0, 0] == -1024).all()


def test_random_geometry_before_labels_is_an_error():
    results = sample()
    del results["instance_map"]
    with pytest.raises(RuntimeError, match="LoadPELabels"):
        RandomSliceGeometry().transform(results)


@settings(max_examples=40)
@given(
    box=st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 36), st.integers(1, 36)),
    margin=st.floats(0, 40),
    jitter=st.sampled_from([0.0, 0.2]),
)
def test_crop_stays_inside_and_holds_the_lungs(box, margin, jitter):
    results = sample()
    results["lung_box"] = list(box)
    CropToLungs(margin_mm=margin, jitter=jitter).transform(results)
    x0, y0, x1, y1 = results["crop_box"]
    assert 0 <= x0 < x1 <= 96 and 0 <= y0 < y1 <= 96
    assert results["hu"].shape[:2] == (y1 - y0, x1 - x0) == results["img_shape"]
    if not jitter:
        x, y, width, height = box
        assert x0 <= x + 1 and y0 <= y + 1
        assert x1 >= x + width - 1 and y1 >= y + height - 1


@pytest.mark.parametrize("size", [(48, 64), 64, (64, 48)])
def test_crop_has_the_shape_of_the_input(size):
    results = CropToLungs(margin_mm=0, size=size).transform(sample())
    x0, y0, x1, y1 = results["crop_box"]
    rows, cols = (size, size) if isinstance(size, int) else size
    assert (y1 - y0) / (x1 - x0) == pytest.approx(rows / cols, abs=0.02)
    x, y, width, height = results["lung_box"]
    assert x0 <= x and y0 <= y and x1 >= x + width and y1 >= y + height


def test_crop_moves_labels_that_are_loaded():
    results = CropToLungs(margin_mm=0).transform(sample())
    assert overlap(results) == 1
    np.testing.assert_array_equal(results["boxes"], boxes_of_instances(results["instance_map"]))


def test_labels_not_yet_loaded_stay_in_stored_geometry():
    results = sample()
    boxes = results["boxes"].copy()
    del results["instance_map"]
    for transform in (CropToLungs(margin_mm=5), ResizeSlice(48)):
        results = transform.transform(results)
    np.testing.assert_array_equal(results["boxes"], boxes)


def test_study_without_lungs_keeps_the_whole_slice():
    results = sample()
    results["lung_box"] = None
    assert CropToLungs().transform(results)["crop_box"] == (0, 0, 96, 96)


def test_the_margin_is_in_millimetres():
    results = sample()
    results["lung_box"], results["spacing_mm"] = [40, 40, 16, 16], [0.5, 0.5, 1.0]
    CropToLungs(margin_mm=5).transform(results)
    assert results["crop_box"] == (30, 30, 66, 66)


@pytest.mark.parametrize("size", [48, 96, 192, (64, 160)])
def test_resize_keeps_image_and_mask_together(size):
    results = ResizeSlice(size).transform(sample())
    rows, cols = (size, size) if isinstance(size, int) else size
    assert results["hu"].shape == (rows, cols, 1)
    assert results["scale_factor"] == (cols / 96, rows / 96)
    assert overlap(results) > 0.8


@pytest.mark.parametrize("size", [60, 150])
def test_resize_makes_no_instances_of_its_own(size):
    """Between background and instance 3 there is no 1 and no 2."""
    given = sample()
    given["instance_map"] = np.where(given["instance_map"] > 0, 3, 0).astype(np.uint16)
    resized = ResizeSlice(size).transform(given)["instance_map"]
    assert resized.shape == (size, size) and set(np.unique(resized)) == {0, 3}


def test_scale_is_relative_to_the_crop():
    results = ResizeSlice(50).transform(CropToLungs(margin_mm=0).transform(sample()))
    x0, y0, x1, y1 = results["crop_box"]
    assert results["scale_factor"] == (50 / (x1 - x0), 50 / (y1 - y0))


@pytest.mark.parametrize("elastic", [0.0, 1.0])
@pytest.mark.parametrize("slices", [1, 5, 9])
def test_every_slice_of_a_stack_goes_the_same_way(slices, elastic):
    """Also more of them than OpenCV takes at once, shrunk and enlarged."""
    for size in (64, 120):
        for transform in (ResizeSlice(size), RandomSliceGeometry(elastic=elastic, rotate=20)):
            results = transform.transform(sample(channels=slices, rng_seed=3))
            assert results["hu"].shape[2] == slices
            for k in range(slices):
                np.testing.assert_array_equal(results["hu"][..., k], results["hu"][..., 0])


def test_it_says_whether_left_and_right_are_exchanged():
    for flip in (0.0, 1.0):
        results = RandomSliceGeometry(flip=flip, rotate=25).transform(sample(rng_seed=2))
        assert results["mirrored"] is bool(flip)
