"""What strangers send: one clear line each, and nothing left behind."""

import errno
import importlib
import json
import math
import os
import sys

import numpy as np
import pytest
from broken_studies import CORPUS, HU, hundreds, series
from dicom_files import write_hu

from pe_unified import progress
from pe_unified.errors import DataError
from pe_unified.inference.predictor import PredictorSettings
from pe_unified.reports import analysis
from pe_unified.reports import files as outputs
from pe_unified.reports.analysis import analyse_study

pytestmark = pytest.mark.usefixtures("without_dicom")


@pytest.fixture
def infer(monkeypatch, checkpoint, predictor):
    """The command as a user calls it, in this process; what it exits with."""
    monkeypatch.setattr(PredictorSettings, "predictor", lambda *_: predictor)
    monkeypatch.setattr(progress, "FIRST", math.inf)  # no line, however slow the machine
    command = importlib.import_module("pe_unified.cli.infer")

    def call(study, out):
        words = [str(study), "--checkpoint", str(checkpoint), "--out", str(out), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["infer.py", *words])
        with pytest.raises(SystemExit) as left:
            command.main()
        return left.value.code

    return call


@pytest.mark.parametrize("made", CORPUS, ids=lambda made: made.__name__)
def test_one_line_and_nothing_left(infer, tmp_path, made, capsys, monkeypatch):
    if made is hundreds:
        monkeypatch.setattr(analysis, "SLICES", (8, 300))
    path, out = made(tmp_path / "study"), tmp_path / "out"
    text = infer(path, out)
    # A text as exit status: printed as it is, and the status is 1.
    assert text.startswith("error: ") and "unexpected, " not in text
    assert text.isprintable() and len(text) < 800
    assert CORPUS[made] in text and "; " in text
    assert not list(out.iterdir())
    assert not capsys.readouterr().err


def test_a_full_disk_is_told_and_leaves_nothing(predictor, tmp_path, monkeypatch):
    study, out = series(tmp_path / "study"), tmp_path / "out"

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(outputs, "write_mask", full)
    with pytest.raises(DataError, match="No space left"):
        analyse_study(study, out, predictor)
    assert not list(out.iterdir())


def test_odd_but_readable_studies_are_analysed(finds_nothing, tmp_path):
    """Files without a suffix, in sub-folders, with a scout, another series and a letter."""
    folder = tmp_path / "study"
    for k in range(12):
        write_hu(folder / f"part{k % 3}" / f"IM{k}", HU, z=2.0 * (11 - k), number=k)
    write_hu(folder / "scout", HU, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_hu(folder / "other" / "1", HU, SeriesInstanceUID="9.9")
    (folder / "letter.pdf").write_bytes(b"%PDF")
    (folder / "DICOMDIR").write_bytes(b"index")
    (folder / "viewer").write_bytes(b"MZ" + bytes(300))
    (folder / "LICENSE").write_text("free of charge " * 30)
    report = analyse_study(folder, tmp_path / "out", finds_nothing)
    assert report["input"]["slices"] == 12
    assert [each["z_mm"] for each in report["slices"]] == [2.0 * k for k in range(12)]
    assert any("localizer" in note for note in report["input"]["notes"])
    assert json.loads((tmp_path / "out" / "report.json").read_text())["slices"]


def test_slices_of_other_shapes_and_steps(finds_nothing, tmp_path):
    for name, size, step in (("thin", 96, 0.5), ("thick", 64, 5.0), ("odd", 77, 1.3)):
        hu = np.random.default_rng(1).normal(0, 300, (size, size + 11)).astype(np.int16)
        for k in range(9):
            write_hu(tmp_path / name / f"{k}", hu, z=step * k)
        report = analyse_study(tmp_path / name, tmp_path / f"{name}-out", finds_nothing)
        assert report["input"]["spacing_mm"]["slice"] == pytest.approx(step)
        flags = {flag["name"] for flag in report["quality"]["flags"]}
        assert ("thick_slices" in flags) == (name == "thick")
