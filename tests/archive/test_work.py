"""The analysis of one study of the queue."""

import warnings

import pydicom
import pytest
from archive_parts import as_study

from pe_unified.archive.job import Request
from pe_unified.archive.work import analyse


@pytest.fixture
def request_of(checkpoint, tmp_path):
    """What is asked, of a folder of images; the report's folder may be another."""

    def made(images, out=tmp_path / "report"):
        model = {"checkpoint": str(checkpoint), "device": "cpu", "precision": "fp32"}
        return Request(images, out, "1.2.3", model)

    return made


def test_no_warning_of_a_header_is_shown(folder, tmp_path, request_of, monkeypatch):
    for mode in ("reading_validation_mode", "writing_validation_mode"):
        monkeypatch.setattr(pydicom.config.settings, mode, pydicom.config.IGNORE)
    (tmp_path / "images").mkdir()
    for number, each in enumerate(as_study(folder, "1.2.3", PatientID="DOE" * 30)):
        each.save_as(tmp_path / f"images/{number}.dcm")
    monkeypatch.undo()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        answer = analyse(request_of(tmp_path / "images"))
    assert len(answer.results) == 2 and told == []


def test_a_model_that_cannot_be_loaded_is_no_fault_of_the_study(folder, tmp_path):
    model = {"checkpoint": str(tmp_path / "away.pth"), "device": "cpu"}
    answer = analyse(Request(folder, tmp_path / "report", "1.2.3", model))
    assert "away.pth" in answer.reason and not answer.final


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_study(folder, tmp_path, request_of):
    (tmp_path / "full").touch()
    answer = analyse(request_of(folder, tmp_path / "full/report"))
    assert "make room" in answer.reason and not answer.final
    (tmp_path / "empty").mkdir()
    assert analyse(request_of(tmp_path / "empty")).final
