"""Masks as runs, and the masks of reports in the order of their slices."""

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pe_unified.ct.opening import open_study
from pe_unified.errors import DataError
from pe_unified.reports.mask_file import write_mask
from pe_unified.serve.mask_runs import mask_of, read_report_mask, runs_of

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))


@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 3))))
def test_runs_come_back_as_the_mask(mask):
    runs = runs_of(mask)
    assert np.array_equal(mask_of(runs, mask.shape), mask)
    assert set(runs) == set(np.flatnonzero(mask.any(axis=(1, 2))))


def test_runs_are_as_documented():
    mask = np.zeros((2, 3, 4), np.uint8)
    mask[1, 0, 2:] = mask[1, 1, 0] = 5
    mask[1, 2, 3] = 7
    assert runs_of(mask) == {1: [2, 3, 5, 11, 1, 7]}


@pytest.mark.parametrize(
    "runs",
    [
        *({2: [0, 1, 1]}, {-1: [0, 1, 1]}, {0: [0, 1]}, {0: [0, 13, 1]}, {0: [12, 1, 1]}),
        *({0: [0, 0, 1]}, {0: [0, 1, 256]}, {0: [0, 1, 0]}, {0: [[0, 1, 1]]}, {"a": [0, 1, 1]}),
    ],
)
def test_runs_that_do_not_fit_are_refused(runs):
    with pytest.raises(ValueError):
        mask_of(runs, (2, 3, 4))


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1), (-1, 1, 1)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_a_mask_follows_the_slices_whichever_way_the_file_lies(tmp_path, axes, signs):
    """A NIfTI study of any orientation; its mask lies as the file does."""
    rng = np.random.default_rng(3)
    hu = rng.integers(-1000, 1000, (10, 12, 14)).astype(np.int16)
    affine = np.zeros((4, 4))
    for axis, sign in zip(axes, signs):
        affine[axis, axes.index(axis)] = sign * (0.5 + axis)
    affine[3, 3] = 1
    nibabel.save(nibabel.Nifti1Image(hu, affine), tmp_path / "ct.nii")
    with open_study(tmp_path / "ct.nii") as study:
        wanted = np.zeros(study.shape, np.uint8)
        wanted[2, 3, 4:7] = 1
        wanted[5, 0, 1] = 2
        pixels = {
            number: {index: np.flatnonzero(wanted[index] == number) for index in (2, 5)}
            for number in (1, 2)
        }
        write_mask(tmp_path / "mask.nii.gz", study, pixels)
        slices, rows, cols = study.shape
    given_ = {"kind": "volume file", "slices": slices, "rows": rows, "cols": cols}
    mask = read_report_mask(tmp_path / "mask.nii.gz", {"input": given_})
    assert np.array_equal(mask, wanted)
    given_["slices"] += 1
    with pytest.raises(DataError, match="size"):
        read_report_mask(tmp_path / "mask.nii.gz", {"input": given_})
