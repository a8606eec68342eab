"""Downloads hold more than the set: what systems and archives leave behind changes nothing."""

import os
import shutil
import unicodedata

import cv2
import numpy as np
import pytest
from raw_sets import (
    smooth_hu,
    tree,
    write_csv,
    write_fumpe_patient,
    write_jpeg_edition,
    write_rsna_study,
)
from test_cadpe import write_case as write_cadpe
from test_read import write_case as write_read

from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults
from pe_unified.converters.raw.cadpe import Cadpe
from pe_unified.converters.raw.fumpe import Fumpe
from pe_unified.converters.raw.read import Read
from pe_unified.converters.raw.rsna import Rsna

QUIET = RunOptions(quiet=True)


def write_fumpe(raw):
    for name in ("PAT001", "PAT002", "Müller"):
        write_fumpe_patient(raw, name, count=4)


def write_rsna(raw):
    rows = [row for k in range(3) for row in write_rsna_study(raw, f"st{k}", [k % 2, 0])]
    write_csv(raw / "train.csv", rows)


def write_cadpe_set(raw):
    for case in ("001", "e0032"):
        write_cadpe(raw, case, f"{case.zfill(4)}RefStd")


def write_read_set(raw):
    for case in ("01GE", "02TS"):
        write_read(raw, case)


SETS = {
    "fumpe": (Fumpe, write_fumpe),
    "rsna": (Rsna, write_rsna),
    "cadpe": (Cadpe, write_cadpe_set),
    "read": (Read, write_read_set),
}


def litter(raw):
    """A Mac's doubles of every file, and what file managers leave in every folder."""
    for path in sorted(raw.rglob("*")):
        if path.is_file():
            double = raw / "__MACOSX" / path.relative_to(raw).with_name(f"._{path.name}")
            double.parent.mkdir(parents=True, exist_ok=True)
            for target in (double, path.with_name(f"._{path.name}")):
                target.write_bytes(b"double")
    for folder in (raw, *(path for path in raw.rglob("*") if path.is_dir())):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"junk")


def upper_suffixes(raw):
    for path in list(raw.rglob("*")):
        if path.is_file() and path.suffix not in ("", ".csv"):
            stem, _, suffix = path.name.partition(".")
            path.rename(path.with_name(f"{stem}.{suffix.upper()}"))


def one_folder_deeper(raw):
    inner = raw / "download"
    inner.mkdir()
    for path in list(raw.iterdir()):
        if path != inner:
            path.rename(inner / path.name)


def data_of(out):
    """Slices and annotations; the report counts what was left out."""
    return {name: data for name, data in tree(out).items() if not name.startswith("conversion")}


# RSNA's folder is the one with train.csv.
@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((name, change) for name in SETS for change in (litter, upper_suffixes)),
        *((name, one_folder_deeper) for name in SETS if name != "rsna"),
    ],
)
def test_the_same_comes_out(tmp_path, name, change):
    converter, write = SETS[name]
    raw = tmp_path / "raw"
    write(raw)
    assert report_faults(convert(converter(raw), tmp_path / "plain", QUIET)) == []
    change(raw)
    assert report_faults(convert(converter(raw), tmp_path / "changed", QUIET)) == []
    assert data_of(tmp_path / "changed") == data_of(tmp_path / "plain")


def test_folders_named_as_their_holder(tmp_path):
    """As an archive leaves it that is unpacked into a folder of its own name."""
    raw = tmp_path / "raw"
    write_fumpe_patient(raw, "PAT001", count=4, scans="CT_scans_1/CT_scans_1")
    report = convert(Fumpe(raw), tmp_path / "out", QUIET)
    assert [entry["patient_id"] for entry in report["patients"]] == ["PAT001"]


def test_one_name_in_two_spellings(tmp_path):
    raw = tmp_path / "raw"
    write_fumpe_patient(raw, "Müller", count=4)
    decomposed = unicodedata.normalize("NFD", "Müller.mat")
    os.rename(raw / "GroundTruth/Müller.mat", raw / "GroundTruth" / decomposed)
    report = convert(Fumpe(raw), tmp_path / "out", QUIET)
    assert [entry["status"] for entry in report["patients"]] == ["converted"]


@pytest.mark.parametrize("edition", ["dicom", "jpeg256"])
@pytest.mark.parametrize("asked", [True, False])
def test_one_stray_picture_does_not_make_an_edition(tmp_path, edition, asked):
    raw = tmp_path / "raw"
    if edition == "dicom":
        write_rsna(raw)
        stray = "preview.jpg"
    else:
        write_jpeg_edition(raw, smooth_hu)
        stray = ".DS_Store"
    for series in raw.glob("train*/*/*"):
        cv2.imwrite(str(series / "x.jpg"), np.zeros((4, 4), np.uint8))
        os.rename(series / "x.jpg", series / stray)
        (series / "Thumbs.db").write_bytes(b"junk")
    converter = Rsna(raw, edition=edition if asked else None)
    assert converter.reader.edition == edition
    assert report_faults(convert(converter, tmp_path / "out", QUIET)) == []


def test_a_slice_that_is_there_twice_in_jpeg(tmp_path):
    raw = tmp_path / "raw"
    write_jpeg_edition(raw, smooth_hu)
    plain = convert(Rsna(raw), tmp_path / "plain", QUIET)
    first = next((raw / "train-jpegs/st1/st1-s").glob("7_*.jpg"))
    shutil.copy(first, first.with_name(first.name.replace("7_", "900_")))
    report = convert(Rsna(raw), tmp_path / "out", QUIET)
    assert report["totals"]["slices"] == plain["totals"]["slices"]
    (fault,) = report_faults(report)
    assert "the same slice as 7_st1-0.jpg, left out" in fault


@pytest.mark.parametrize("name", ["cadpe", "read"])
def test_two_of_one_name_are_not_chosen_from(tmp_path, name):
    converter, write = SETS[name]
    raw = tmp_path / "raw"
    write(raw)
    if name == "cadpe":
        shutil.copy(raw / "rs/0001RefStd.nrrd", raw / "rs/001RefStd.nrrd")
    else:
        (raw / "old masks").mkdir()
        shutil.copy(raw / "01GE.nii.gz", raw / "old masks/01GE.nii.gz")
    report = convert(converter(raw), tmp_path / "out", QUIET)
    assert report["totals"]["converted"] == 1
    (fault,) = report_faults(report)
    assert "found more than once" in fault and "keep one of them" in fault


def test_renamed_slices_are_converted_again(tmp_path):
    raw = tmp_path / "raw"
    write_fumpe_patient(raw, "PAT001", count=9)
    converted = convert(Fumpe(raw, check_hu=False), tmp_path / "out", QUIET)
    assert converted["totals"]["converted"] == 1
    folder = raw / "CT_scans/PAT001"
    for k in range(9):
        os.rename(folder / f"D{k + 1}.dcm", folder / f"x{8 - k}")
    for k in range(9):
        os.rename(folder / f"x{k}", folder / f"D{k + 1}.dcm")
    convert(Fumpe(raw, check_hu=False), tmp_path / "out", QUIET)
    convert(Fumpe(raw, check_hu=False), tmp_path / "fresh", QUIET)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_another_variable_is_another_conversion(tmp_path):
    from scipy.io import loadmat, savemat

    raw = tmp_path / "raw"
    write_fumpe_patient(raw, "PAT001", count=6)
    path = raw / "GroundTruth/PAT001.mat"
    mask = loadmat(path)["Mask"]
    other = mask.copy()
    other[:, :, 1] = 0
    savemat(path, {"Mask": mask, "Other": other})
    first = convert(Fumpe(raw), tmp_path / "out", QUIET)
    second = convert(Fumpe(raw, variable="Other"), tmp_path / "out", QUIET)
    slices = [each["totals"]["positive_slices"] for each in (first, second)]
    assert slices[1] == slices[0] - 1


def test_a_study_that_cannot_be_listed_costs_its_patient(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    write_rsna(raw)
    walk = os.walk

    def refuse(top, **options):
        if "st1" in str(top) and "onerror" in options:
            options["onerror"](PermissionError(13, "Permission denied", str(top)))
        return walk(top, **options)

    monkeypatch.setattr("os.walk", refuse)
    report = convert(Rsna(raw), tmp_path / "out", QUIET)
    assert report["totals"]["converted"] == 2
    assert any("cannot be listed" in fault for fault in report_faults(report))
