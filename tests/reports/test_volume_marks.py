"""A model of volumes beside a model of slices: its marks join the report."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from studies import write_checkpoint, write_volume_checkpoint

import pe_unified.reports
from pe_unified.ct.opening import open_study
from pe_unified.errors import CheckpointError
from pe_unified.inference.predictor import PredictorSettings
from pe_unified.inference.volumes import load_volume_model, predict_study
from pe_unified.reports.analysis import analyse_study

pytestmark = pytest.mark.usefixtures("without_dicom")

SCHEMA = json.loads(Path(pe_unified.reports.__file__).with_name("report.schema.json").read_text())


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Of slices, without lesions of its own, and of volumes, which marks every study."""
    root = tmp_path_factory.mktemp("models")
    volumes = write_volume_checkpoint(root / "volumes.pth")
    return write_checkpoint(root / "slices.pth", heads=("cls", "seg")), volumes


@pytest.fixture(scope="module")
def predictor(checkpoints):
    slices, volumes = map(str, checkpoints)
    settings = PredictorSettings(slices, device="cpu", precision="fp32", volume_checkpoint=volumes)
    return settings.predictor()


@pytest.fixture(scope="module")
def chest(tmp_path_factory):
    """A body and two lungs, slices 4 mm apart."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (96, 96, 40)), indexing="ij")
    volume = np.full(x.shape, -1000, np.int16)
    volume[(x / 0.9) ** 2 + (y / 0.7) ** 2 < 1] = 40
    for side in (-0.42, 0.42):
        lung = ((x - side) / 0.3) ** 2 + (y / 0.5) ** 2 + (z / 0.85) ** 2 < 1
        volume[lung] = -850
    file = tmp_path_factory.mktemp("chest") / "ct.nii"
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([4, 4, 4, 1.0])), file)
    return file


def test_its_marks_are_lesions_of_the_report(predictor, chest, checkpoints, tmp_path):
    found = analyse_study(chest, tmp_path / "out", predictor)
    stored = json.loads((tmp_path / "out" / "report.json").read_text())
    Draft202012Validator(SCHEMA).validate(stored)
    assert stored["model"]["volume_model"]["checkpoint"] == "volumes.pth"
    assert stored["model"]["volume_model"]["step"] == "aanet3d"
    assert "volume_model" in stored["seconds"]
    assert "marks in three dimensions" in (tmp_path / "out" / "report.html").read_text()
    model = load_volume_model(checkpoints[1], device="cpu", precision="fp32")
    with open_study(chest) as study:
        marks = predict_study(model, study).lesion_marks()
    assert 1 <= len(marks) <= 3
    scores = [each["mark_score"] for each in found["lesions"] if each["mark_score"] is not None]
    assert max(scores) == pytest.approx(max(mark.probability for mark in marks), abs=1e-4)


def test_a_study_that_it_cannot_see_is_reported_all_the_same(predictor, tmp_path):
    volume = np.full((64, 64, 12), 40, np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([2, 2, 2, 1.0])), tmp_path / "ct.nii")
    found = analyse_study(tmp_path / "ct.nii", tmp_path / "out", predictor)
    (note,) = [each for each in found["input"]["notes"] if "model of volumes" in each]
    assert "lungs" in note
    assert all(each["mark_score"] is None for each in found["lesions"])


def test_a_model_of_arteries_alone_marks_nothing_and_is_refused(checkpoints, tmp_path):
    stored = torch.load(checkpoints[1], weights_only=True)
    stored["meta"]["cfg"]["model"]["lesion_head"] = None
    torch.save(stored, tmp_path / "arteries.pth")
    settings = PredictorSettings(
        str(checkpoints[0]), device="cpu", volume_checkpoint=str(tmp_path / "arteries.pth")
    )
    with pytest.raises(CheckpointError, match="finds only arteries"):
        settings.predictor()
