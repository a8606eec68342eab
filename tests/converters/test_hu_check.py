import numpy as np
import pytest

from pe_unified.converters.contract.hu_check import HuStatistics, judge, measure
from pe_unified.errors import DataError


def artery(embolus=60, contrast=320, around=-850, seed=0):
    """A vessel in lung with an embolus in it, with noise: HU and mask."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:64, :64] - 32
    radius = np.hypot(ys, xs)
    hu = np.where(radius < 12, contrast, around)
    hu[radius < 7] = embolus
    return (hu + rng.normal(0, 20, hu.shape)).astype(np.int16), (radius < 7).astype(np.uint8)


def test_an_embolus_in_contrast_passes():
    hu, mask = artery()
    found = measure(hu, mask, np.roll(mask, 20, axis=0))
    judge(found, "p", "cure")
    assert found.pixels == mask.sum() and found.share > 0.98
    assert found.mean == pytest.approx(60, abs=3)
    assert found.contrast > 250


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"embolus": -850}, "mean -850 HU"),
        ({"embolus": 320}, "mean 3[12].* HU"),
        ({"contrast": 60, "around": 50}, "no contrast around"),
    ],
)
def test_masks_on_other_tissue_fail(fields, reason):
    hu, mask = artery(**fields)
    with pytest.raises(DataError, match=rf"p: the HU check fails: .*{reason}.*; cure"):
        judge(measure(hu, mask), "p", "cure")


def test_an_occluded_vessel_in_lung_passes_where_the_reversed_order_fits_worse():
    hu, mask = artery(contrast=60)
    judge(measure(hu, mask, np.roll(mask, 20, axis=0)), "p", "cure")
    with pytest.raises(DataError, match="no contrast around"):
        judge(measure(hu, mask, mask), "p", "cure")


def test_lung_within_the_pixels_of_small_emboli_passes():
    """One pixel of five lies on the edge: the mean is low, most pixels are those of an embolus."""
    hu, mask = artery()
    hu.ravel()[np.flatnonzero(mask)[::5]] = -480
    found = measure(hu, mask, np.roll(mask, 20, axis=0))
    assert -100 < found.mean < -30
    judge(found, "p", "cure")


def test_a_mean_by_chance_fails_by_its_share():
    """Half lung, half bone: the mean is that of an embolus, the pixels are not."""
    hu, mask = artery()
    where = np.flatnonzero(mask)
    hu.ravel()[where[::2]], hu.ravel()[where[1::2]] = -850, 970
    with pytest.raises(DataError, match=r"only 0% of the mask pixels"):
        judge(measure(hu, mask), "p", "cure")


def test_reversed_order_is_named():
    right, mask = artery()
    half = right.copy()
    half[:30] = 400  # the paired slice fits in part, the mirrored one throughout
    found = measure(half, mask)
    found.add(measure(right, None, mask))
    with pytest.raises(DataError, match="fit better in reversed order"):
        judge(found, "p", "cure")


def few(hu, row, col):
    """A mask of nine pixels."""
    mask = np.zeros(hu.shape, dtype=np.uint8)
    mask[row : row + 3, col : col + 3] = 1
    return measure(hu, mask)


def test_a_mask_of_a_few_pixels_is_judged_too():
    hu, _ = artery()
    judge(few(hu, 31, 31), "p", "cure")
    judge(few(hu, 25, 31), "p", "cure")  # its first row lies on the embolus' edge
    for row, reason in ((1, "mean -8[45]. HU"), (22, "mean 3[0-9]. HU")):
        with pytest.raises(DataError, match=f"p: the HU check fails: {reason}"):
            judge(few(hu, row, 31), "p", "cure")
    with pytest.raises(DataError, match="fit better in reversed order"):
        judge(few(hu, 24, 31).against(few(hu, 31, 31)), "p", "cure")
    judge(HuStatistics(), "p", "cure")


def test_sums_do_not_depend_on_the_grouping():
    pairs = [artery(seed=seed) for seed in range(4)]
    one_by_one, halves = HuStatistics(), [HuStatistics(), HuStatistics()]
    for index, (hu, mask) in enumerate(pairs):
        one_by_one.add(measure(hu, mask))
        halves[index % 2].add(measure(hu, mask))
    halves[1].add(halves[0])
    assert halves[1].total == one_by_one.total and halves[1].typical == one_by_one.typical
    np.testing.assert_array_equal(halves[1].ring, one_by_one.ring)
