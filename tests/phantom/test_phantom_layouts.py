"""Files of every layout: exact, with their quirks, valid DICOM."""

import csv
import itertools
import shutil
import subprocess
from pathlib import Path

import h5py
import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
import SimpleITK
from mat_masks import read_mask
from rsna_rules import label_faults

from pe_unified.ct.exam_labels import EXAM_LABELS
from pe_unified.phantom.grid import Grid
from pe_unified.phantom.labels import Embolus, exam_labels
from pe_unified.phantom.layouts.cadpe import case_name
from pe_unified.phantom.layouts.cadpe import write_study as write_cadpe_study
from pe_unified.phantom.layouts.dicom_slices import PIXEL_STYLES, TRANSFER_SYNTAXES, write_series
from pe_unified.phantom.layouts.fumpe import is_positive
from pe_unified.phantom.layouts.fumpe import write_study as write_fumpe_study
from pe_unified.phantom.layouts.read import write_study as write_read_study
from pe_unified.phantom.layouts.rsna import BOX_COLUMNS, TRAIN_COLUMNS, finish
from pe_unified.phantom.layouts.rsna import write_study as write_rsna_study
from pe_unified.phantom.study import PhantomStudy, plan_study


def make_study(seed: int = 1, slices: int = 12, size: int = 24) -> PhantomStudy:
    """A study of noise with two boxes for emboli, where the anatomy does not matter."""
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1000, 1500, (slices, size, size)).astype(np.int16)
    emboli = np.zeros(hu.shape, dtype=np.uint8)
    emboli[2:5, 8:12, 9:11] = 1
    emboli[4:6, 14:17, 13:18] = 2
    findings = tuple(
        Embolus(n, 0.5, "lobar", n == 1, n == 2, False, "occlusive", False, 50.0) for n in (1, 2)
    )
    grid = Grid(hu.shape, (1.257, 0.7031, 0.7031), (-81.5, -82.25, 12.5))
    return PhantomStudy(
        hu=hu,
        emboli=emboli,
        structures=np.zeros_like(emboli),
        spacing=grid.spacing,
        origin=grid.origin,
        findings=findings,
        labels=exam_labels(findings, 0.8),
        rv_lv_ratio=0.8,
        plan=plan_study(seed, positive=True),
        anatomy=None,  # type: ignore[arg-type]
        grid=grid,
    )


def read_hu(path: Path) -> np.ndarray:
    ds = pydicom.dcmread(path)
    return ds.pixel_array.astype(int) * int(ds.RescaleSlope) + int(ds.RescaleIntercept)


def inside_view(study: PhantomStudy) -> np.ndarray:
    rows, cols = ((np.arange(n) - (n - 1) / 2) for n in study.hu.shape[1:])
    return rows[:, None] ** 2 + cols[None] ** 2 < (study.hu.shape[1] / 2 - 1) ** 2


def test_fumpe_masks_follow_the_natural_order_of_the_names(tmp_path: Path) -> None:
    seen = set()
    for seed in range(1, 13):
        study = make_study(seed)
        write_fumpe_study(tmp_path, seed, study)
        mask = read_mask(tmp_path / "GroundTruth" / f"PAT{seed:03d}.mat")
        assert mask.shape == (24, 24, 12)
        files = sorted(
            (tmp_path / "CT_scans" / f"PAT{seed:03d}").iterdir(), key=lambda p: int(p.stem[1:])
        )
        view = inside_view(study)
        heights = []
        for k, path in enumerate(files):
            ds = pydicom.dcmread(path)
            heights.append(float(ds.ImagePositionPatient[2]))
            level = round((heights[-1] - study.origin[2]) / study.spacing[0])
            assert (read_hu(path)[view] == study.hu[level][view]).all()
            assert (mask[:, :, k] == (study.emboli[level] > 0)).all()
        by_number = pydicom.dcmread(files[0]).InstanceNumber == 1
        v73 = h5py.is_hdf5(tmp_path / "GroundTruth" / f"PAT{seed:03d}.mat")
        seen |= {("up", heights[0] < heights[-1]), ("padded", files[0].stem == "D0001")}
        seen |= {("instance follows files", by_number), ("v7.3", v73)}
    # Every quirk occurs among a dozen patients, and so does its opposite.
    quirks = ("up", "padded", "instance follows files", "v7.3")
    assert seen == set(itertools.product(quirks, (True, False)))


def test_two_fumpe_patients_in_35_have_no_embolus() -> None:
    assert [n for n in range(1, 36) if not is_positive(n)] == [24, 32]


def test_mat_v73_is_what_matlab_writes(tmp_path: Path) -> None:
    study = next(
        s for s in map(make_study, range(1, 40)) if s.plan.rng("fumpe").random(4)[3] < 0.35
    )
    write_fumpe_study(tmp_path, 1, study)
    path = tmp_path / "GroundTruth" / "PAT001.mat"
    head = path.read_bytes()[:128]
    assert head.startswith(b"MATLAB 7.3 MAT-file")
    assert head[124:128] == b"\x00\x02IM"
    with h5py.File(path) as file:
        assert file["Mask"].shape == (12, 24, 24)
        assert file["Mask"].attrs["MATLAB_class"] == b"uint8"


def test_rsna_rows_files_and_boxes(tmp_path: Path) -> None:
    studies = [make_study(1), make_study(2)]
    records = []
    for number, study in enumerate(studies, 1):
        record = write_rsna_study(tmp_path, number, study, jpeg=True, boxes=True)
        records.append({"labels": study.labels} | record)
    finish(tmp_path, records)
    with (tmp_path / "train.csv").open() as file:
        reader = csv.reader(file)
        assert tuple(next(reader)) == TRAIN_COLUMNS
        rows = [dict(zip(TRAIN_COLUMNS, row)) for row in reader]
    assert len(rows) == 24
    for row in rows:
        place = (row["StudyInstanceUID"], row["SeriesInstanceUID"])
        ds = pydicom.dcmread(tmp_path.joinpath("train", *place, f"{row['SOPInstanceUID']}.dcm"))
        assert ds.SOPInstanceUID == row["SOPInstanceUID"]
        study = studies[[r["study_uid"] for r in records].index(place[0])]
        level = round((float(ds.ImagePositionPatient[2]) - study.origin[2]) / study.spacing[0])
        assert int(row["pe_present_on_image"]) == int(study.emboli[level].any())
        labels = {name: int(row[name]) for name in EXAM_LABELS}
        assert label_faults(labels, any_slice_positive=True) == []
    with (tmp_path / "augmented_rspect.csv").open() as file:
        boxes = list(csv.DictReader(file))
    assert tuple(boxes[0]) == BOX_COLUMNS
    # Slice 4 of each study shows both emboli: one SOP, two rows, none dropped.
    assert len(boxes) == 2 * (3 + 2)
    assert len({box["SOPInstanceUID"] for box in boxes}) == 2 * 4
    first = [int(boxes[0][name]) for name in ("x", "y", "width", "height")]
    assert first == [9, 8, 2, 4]
    pictures = sorted((tmp_path / "train-jpegs" / records[0]["study_uid"]).rglob("*.jpg"))
    assert len(pictures) == 12
    assert pictures[0].name == f"001_{records[0]['sop_uids'][0]}.jpg"


def test_rsna_jpegs_have_the_three_windows(tmp_path: Path) -> None:
    import cv2

    study = make_study(3)
    study.hu[0] = 100
    record = write_rsna_study(tmp_path, 1, study, jpeg=True)
    path = next((tmp_path / "train-jpegs").rglob(f"001_{record['sop_uids'][0]}.jpg"))
    picture = cv2.imread(str(path))[:, :, ::-1]
    assert picture.shape == (256, 256, 3)
    # 100 HU in (-600, 1500), (100, 700) and (40, 400).
    expected = np.array([1450 / 1500, 0.5, 260 / 400]) * 255
    assert np.abs(picture[128, 128] - expected).max() < 4


def test_cadpe_volumes_share_their_geometry(tmp_path: Path) -> None:
    assert [case_name(n) for n in (1, 2, 3, 4)] == ["001", "002", "e0003", "004"]
    study = make_study(4)
    for number, label in ((1, "0001"), (3, "e0003")):
        write_cadpe_study(tmp_path, number, study)
        image, header = nrrd.read(tmp_path / "images" / f"{case_name(number)}.nrrd")
        labels, label_header = nrrd.read(tmp_path / "rs" / f"{label}RefStd.nrrd")
        assert image.dtype == np.int16
        assert (image == study.hu.transpose(2, 1, 0)).all()
        assert (labels == study.emboli.transpose(2, 1, 0)).all()
        for key in ("space directions", "space origin"):
            assert np.allclose(header[key], label_header[key])
        assert np.allclose(np.diag(header["space directions"]), study.spacing[::-1])
    volume = SimpleITK.ReadImage(str(tmp_path / "images" / "001.nrrd"))
    assert np.allclose(volume.GetOrigin(), study.origin)


def test_read_headers_disagree_and_arrays_agree(tmp_path: Path) -> None:
    study = make_study(5)
    write_read_study(tmp_path, 1, study)
    write_read_study(tmp_path, 2, study)
    assert (tmp_path / "TOSHIBA (DICOM files)" / "01TS").is_dir()
    reader = SimpleITK.ImageSeriesReader()
    folder = tmp_path / "GE (DICOM files)" / "01GE"
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    view = inside_view(study)
    assert (SimpleITK.GetArrayFromImage(image)[:, view] == study.hu[:, view]).all()
    mask = nibabel.load(tmp_path / "01GE.nii.gz")
    assert (np.asarray(mask.dataobj) == (study.emboli > 0).transpose(2, 1, 0)).all()
    assert mask.affine[2, 2] < 0 < image.GetDirection()[8]
    assert mask.header.get_zooms()[2] == pytest.approx(1.3)
    assert image.GetSpacing()[2] == pytest.approx(1.257, abs=1e-6)
    maker = pydicom.dcmread(next(folder.iterdir())).Manufacturer
    assert maker == "GE MEDICAL SYSTEMS"


@pytest.mark.parametrize("style", PIXEL_STYLES, ids=lambda style: style.manufacturer)
def test_simpleitk_reads_every_style_cleanly(tmp_path: Path, style) -> None:
    study = make_study(6)
    write_series(
        tmp_path,
        study,
        [f"{k:03d}.dcm" for k in range(12)],
        patient="P",
        person="PHANTOM^001",
        manufacturer=style.manufacturer,
    )
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    assert np.allclose(image.GetSpacing(), study.spacing[::-1])
    assert np.allclose(image.GetOrigin(), study.origin)
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    hu = SimpleITK.GetArrayFromImage(image)
    view = inside_view(study)
    assert (hu[:, view] == study.hu[:, view]).all()
    outside = style.intercept + style.padding if style.padding is not None else study.hu[0, 0, 0]
    assert hu[0, 0, 0] == outside


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("style", PIXEL_STYLES, ids=lambda style: style.manufacturer)
def test_dciodvfy_finds_no_fault(tmp_path: Path, style) -> None:
    names = [f"{k}.dcm" for k in range(12)]
    maker = style.manufacturer
    write_series(tmp_path, make_study(7), names, patient="P", person="A^B", manufacturer=maker)
    done = subprocess.run(
        ["dciodvfy", str(tmp_path / "3.dcm")], capture_output=True, text=True, check=False
    )
    told = (done.stdout + done.stderr).splitlines()
    assert "CTImage" in told
    assert [line for line in told if line.startswith(("Error", "Warning"))] == []


@pytest.mark.parametrize("name", TRANSFER_SYNTAXES)
def test_every_transfer_syntax_is_lossless(tmp_path: Path, name: str) -> None:
    study = make_study(8, slices=6, size=64)
    names = [f"{k}.dcm" for k in range(6)]
    write_series(tmp_path, study, names, patient="P", person="A^B", transfer_syntax=name)
    ds = pydicom.dcmread(tmp_path / "1.dcm")
    assert ds.file_meta.TransferSyntaxUID == TRANSFER_SYNTAXES[name]
    view = inside_view(study)
    assert (read_hu(tmp_path / "1.dcm")[view] == study.hu[1][view]).all()
