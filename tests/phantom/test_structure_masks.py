"""Masks of arteries and veins beside painted studies."""

import json

import nibabel
import numpy as np
import pytest

from pe_unified.ct.opening import open_study
from pe_unified.ct.structures import read_structures
from pe_unified.phantom.command import write_layout
from pe_unified.phantom.study import STRUCTURES

SETTINGS = dict(seed=2, size=64, slices=16, positive_rate=1.0, truth=True)


@pytest.fixture(scope="module", params=["cadpe", "fumpe"])
def painted(request, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param)
    (record,) = write_layout(out, request.param, 1, structures=True, **SETTINGS)
    return out, record["patient_id"], request.param


def test_masks_lie_on_the_study(painted):
    out, patient, layout = painted
    scan = {"cadpe": f"images/{patient}.nrrd", "fumpe": f"CT_scans/{patient}"}[layout]
    truth = np.load(out / "truth" / f"{patient}.npz")["structures"]
    folder = out / "structures" / patient
    assert sorted(each.name for each in folder.iterdir()) == [
        "lung_arteries.nii.gz",
        "lung_veins.nii.gz",
    ]
    with open_study(out / scan) as study:
        found = read_structures(folder, study)
    assert not found.notes
    mask = found.masks["lung_arteries"].on((0, 0, 0), study.shape)
    np.testing.assert_array_equal(mask, truth == STRUCTURES["artery"])
    veins = nibabel.load(folder / "lung_veins.nii.gz").get_fdata()
    assert veins.sum() == (truth == STRUCTURES["vein"]).sum() > 0


def test_what_was_painted_before_stays_as_it_is(painted, tmp_path):
    """Files and what is written down of the settings are the same where none are asked for."""
    out, _patient, layout = painted
    write_layout(tmp_path, layout, 1, **SETTINGS)
    assert not (tmp_path / "structures").exists()
    plain = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    told = [path for path in plain if path.name in ("phantom.json", "settings.json")]
    for path in plain - set(told):
        assert (tmp_path / path).read_bytes() == (out / path).read_bytes(), path
    assert "structures" not in json.loads((tmp_path / "phantom.json").read_text())["settings"]
    with pytest.raises(ValueError, match="painted with other settings"):
        write_layout(tmp_path, layout, 1, structures=True, **SETTINGS)
