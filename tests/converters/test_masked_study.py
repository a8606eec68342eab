from pathlib import Path

from pe_unified.converters.raw.masked_study import MaskedSlice, plan_masked_study


def test_the_mirrored_masks_are_those_of_the_other_end_of_the_file():
    """Whatever the order of the slices in the body."""
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        slices = [MaskedSlice((Path("x"), k), [{"mask": k}], k, z_mm=0.0) for k in order]
        spacing = (1.0, 1.0, 1.0)
        plan = plan_masked_study("P", "1.2", slices, spacing, notes=[], check_hu=True)
        for item, k in zip(plan.studies[0].slices, order, strict=True):
            assert item.annotations == [{"mask": k}] and item.mirrored == [{"mask": 3 - k}]
