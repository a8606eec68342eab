"""Studies as the public sets lay them out, each read from its own files."""

import numpy as np
import pytest
import SimpleITK as sitk
from whole_lungs import lung_mask

from pe_unified.ct.opening import open_study
from pe_unified.phantom.command import write_layout
from pe_unified.phantom.study import STRUCTURES
from pe_unified.reports.analysis import analyse_study

pytestmark = pytest.mark.usefixtures("without_dicom")

#: Where a layout keeps the CT of its first patient.
PLACES = {
    "fumpe": "CT_scans/PAT001",
    "rsna": "train/*",
    "cadpe": "images/001.nrrd",
    "read": "GE (DICOM files)/01GE",
}


@pytest.mark.parametrize(
    "layout",
    ["fumpe", *(pytest.param(k, marks=pytest.mark.slow) for k in ("rsna", "cadpe", "read"))],
)
def test_every_layout_is_read_and_lies_as_painted(finds_nothing, tmp_path, layout):
    raw = tmp_path / "raw"
    write_layout(raw, layout, 1, seed=6, size=96, slices=40, positive_rate=1.0, truth=True)
    (path,) = raw.glob(PLACES[layout])
    found = analyse_study(path, tmp_path / "out", finds_nothing)
    assert found["input"]["slices"] == 40 and found["lungs"]["found"]
    mask = sitk.ReadImage(str(tmp_path / "out/mask.nii.gz"))
    assert mask.GetSize() == (96, 96, 40)
    assert bool(found["input"]["study_uid"]) == (layout != "cadpe")
    # The truth runs from the feet, rows to the back: turned or mirrored lungs would not lie on it.
    (truth,) = (raw / "truth").glob("*.npz")
    with np.load(truth) as stored:
        lungs = stored["structures"] == STRUCTURES["lung"]
    with open_study(path) as study:
        seen = lung_mask(study.all_hu(), study.spacing_mm)
    assert 2 * (seen & lungs).sum() / (seen.sum() + lungs.sum()) > 0.85
    for turned in (lungs[::-1], lungs[:, ::-1], lungs[:, :, ::-1]):
        assert 2 * (seen & turned).sum() / (seen.sum() + turned.sum()) < 0.85
