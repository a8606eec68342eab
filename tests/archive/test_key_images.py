"""Pictures of lesions: what they show, and whom they are filed with."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from nibabel.nifti1 import Nifti1Image

from pe_unified.archive.key_images import draw, write_key_images
from pe_unified.ct.opening import open_study
from pe_unified.errors import DataError


@pytest.fixture(scope="module")
def pictures(report, folder, tmp_path_factory):
    """Of a copy of the report: the folder."""
    out = tmp_path_factory.mktemp("keys") / "report"
    shutil.copytree(report[0], out)
    write_key_images(out / "key_images", folder, report[1], 3)
    return out / "key_images"


def test_a_picture_of_each_lesion_in_one_series(pictures, report, folder):
    called = [lesion for lesion in report[1]["lesions"] if lesion["called"]][:3]
    found = [pydicom.dcmread(path) for path in sorted(pictures.iterdir())]
    assert len(found) == len(called) and len({each.SeriesInstanceUID for each in found}) == 1
    with open_study(folder) as study:
        for each, lesion in zip(found, called):
            assert each.StudyInstanceUID == report[1]["input"]["study_uid"]
            (source,) = each.SourceImageSequence
            assert source.ReferencedSOPInstanceUID == study.sop_uids[lesion["key_slice"]]


def test_the_outline_surrounds_the_lesion(report, folder):
    mask = np.asarray(Nifti1Image.from_filename(report[0] / "mask.nii.gz").dataobj)
    lesion = next(each for each in report[1]["lesions"] if each["called"] and each["volume_ml"])
    inside = np.equal(mask[:, :, lesion["key_slice"]].T, lesion["number"])
    assert inside.any()
    with open_study(folder) as study:
        hu = study.slice_hu(lesion["key_slice"])
    picture = draw(hu, inside, lesion)
    factor = picture.shape[1] // hu.shape[1]
    outlined = np.argwhere((picture[: -28 or None] == (245, 160, 0)).all(-1)) // factor
    assert len(outlined) and all(inside[row, col] for row, col in outlined)


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="no dciodvfy (dicom3tools)")
def test_dciodvfy_finds_no_error_in_a_picture(pictures):
    done = subprocess.run(["dciodvfy", min(pictures.iterdir())], capture_output=True, text=True)
    assert "Error" not in done.stderr + done.stdout


def test_the_acquisition_of_the_report_is_shown(report, folder, tmp_path):
    shutil.copytree(report[0], tmp_path / "report")
    asked = {**report[1], "input": report[1]["input"] | {"acquisition": 7}}
    with pytest.raises(DataError, match=r"no series .*#7"):
        write_key_images(tmp_path / "report" / "key_images", folder, asked, 3)


def test_without_an_sr_nothing_could_file_them(report, folder, tmp_path):
    write_key_images(tmp_path / "key_images", folder, report[1], 3)
    assert not (tmp_path / "key_images").exists()
