"""A converted set to nnU-Net's raw layout and back: the same pixels, masks, patients and splits."""

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from raw_sets import all_images, load_splits, painted
from test_cadpe import write_case

from pe_unified.converters.contract.known_splits import KnownSplits
from pe_unified.converters.contract.schema import decode_mask
from pe_unified.converters.nnunet_cases import read_cases
from pe_unified.converters.nnunet_cases import write_case as write_case_of
from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults
from pe_unified.converters.raw.cadpe import Cadpe
from pe_unified.converters.raw.nnunet import Nnunet
from pe_unified.converters.to_nnunet import export
from pe_unified.converters.verify import verify
from pe_unified.ct.hu import read_slice_png
from pe_unified.errors import DataError

GROUPS = {"001": "g", "002": "g"}
OPTIONS = RunOptions(quiet=True, seed=3, split=(0.4, 0.3, 0.3), groups=GROUPS)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A CAD-PE set of six cases, half of them stored from head to feet, and its nnU-Net dataset."""
    root = tmp_path_factory.mktemp("nnunet")
    for number in range(1, 7):
        flips = (0, 0, number % 2)
        write_case(root / "raw", f"{number:03d}", f"{number:04d}RefStd", seed=number, flips=flips)
    convert(Cadpe(root / "raw"), root / "data", OPTIONS)
    folder, kept = export(root / "data", root / "nnUNet_raw", 501, "PE")
    return root / "data", folder, kept


def by_slice(root):
    return {(image["patient_id"], image["slice_index"]): image for image in all_images(root)}


def test_the_layout_is_nnunets(exported):
    data, folder, _ = exported
    assert folder.name == "Dataset501_PE"
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "CT"}
    assert dataset["labels"] == {"background": 0, "embolus": 1}
    assert dataset["file_ending"] == ".nii.gz"
    names = {
        part.name: sorted(path.name for path in part.iterdir())
        for part in folder.iterdir()
        if part.is_dir()
    }
    assert dataset["numTraining"] == len(names["labelsTr"])
    for part in ("Tr", "Ts"):
        cases = [name.removesuffix(".nii.gz") for name in names[f"labels{part}"]]
        assert names[f"images{part}"] == [f"{case}_0000.nii.gz" for case in cases]
    (split,) = json.loads((folder / "splits_final.json").read_text())
    patients = {
        name: {i["patient_id"] for i in c["images"]} for name, c in load_splits(data).items()
    }
    for name in ("train", "val"):
        assert set(split[name]) == {f"PE_{patient}" for patient in patients[name]}
    assert names["labelsTs"] == sorted(f"PE_{patient}.nii.gz" for patient in patients["test"])


def test_volumes_lie_as_the_slices_do(exported):
    """ITK reads HU in LPS; voxel [k, row, col] is that of slice k."""
    data, folder, _ = exported
    image = next(iter(by_slice(data).values()))
    case = f"PE_{image['patient_id']}"
    (path,) = folder.glob(f"images*/{case}_0000.nii.gz")
    volume = sitk.ReadImage(str(path))
    row, col, step = image["spacing_mm"]
    assert volume.GetSpacing() == pytest.approx((col, row, step), rel=1e-5)
    assert volume.GetDirection() == pytest.approx(np.eye(3).ravel())
    first = by_slice(data)[image["patient_id"], 0]
    assert volume.GetOrigin()[2] == pytest.approx(first["z_mm"], rel=1e-6)
    array = sitk.GetArrayFromImage(volume)
    assert array.dtype == np.int16
    for index in (0, 3):
        own = by_slice(data)[image["patient_id"], index]
        np.testing.assert_array_equal(array[index], read_slice_png(data / own["file_name"]))


def test_positions_and_orientation_are_kept_where_the_set_has_them(exported, tmp_path):
    """Of a patient who lies prone, in slices that lean: ITK finds a voxel where the set has it."""
    data, _, _ = exported
    cases, _, _ = read_cases(data, "PE")
    origin, step = np.array([100.0, 80.0, -300.0]), np.array([0.0, 0.2, 1.2])
    images = tuple(
        {
            **image,
            "position_mm": [*(origin + step * number)],
            "orientation": [-1.0, 0, 0, 0, -1.0, 0],
        }
        for number, image in enumerate(cases[0].images)
    )
    write_case_of(replace(cases[0], images=images), data, tmp_path)
    (path,) = tmp_path.glob("images*/*.nii.gz")
    affine = nibabel.load(path).affine
    row, col, _ = images[0]["spacing_mm"]
    expected = np.diag([-1.0, -1, 1]) @ (origin + 3 * step - [5 * col, 7 * row, 0])
    np.testing.assert_allclose(affine[:3] @ [5, 7, 3, 1], expected, rtol=1e-5)


def test_there_and_back_all_is_the_same(exported, tmp_path):
    data, folder, _ = exported
    back = tmp_path / "back"
    converter = Nnunet(folder)
    report = convert(converter, back, converter.settle(RunOptions(quiet=True)))
    assert report_faults(report) == [] and verify(back) == []
    before, after = by_slice(data), by_slice(back)
    assert before.keys() == after.keys()
    for key, image in before.items():
        other = after[key]
        np.testing.assert_array_equal(
            read_slice_png(data / image["file_name"]), read_slice_png(back / other["file_name"])
        )
        same = ("split", "study_uid", "pe_present", "labels_known", "lung_box", "lung_share")
        assert {name: image[name] for name in same} == {name: other[name] for name in same}
        assert image.get("group") == other.get("group")
        assert other["spacing_mm"] == pytest.approx(image["spacing_mm"], rel=1e-5)
        assert other["z_mm"] == pytest.approx(image["z_mm"], abs=1e-3)
        assert other["position_mm"] == pytest.approx(image["position_mm"], abs=1e-3)
        assert other["orientation"] == pytest.approx(image["orientation"], abs=1e-5)
        for one, two in zip(image["annotations"], other["annotations"], strict=True):
            assert one["instance_id"] == two["instance_id"] and one["bbox"] == two["bbox"]
            assert one["segmentation"] == two["segmentation"]


def write_foreign(raw, cases, tests=(), **dataset):
    """A dataset as others make them; the mask of a case is one block."""
    said = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "vein": 1, "clot": 2},
        "numTraining": len(cases),
        "file_ending": ".nii",
        **dataset,
    }
    raw.mkdir(parents=True)
    (raw / "dataset.json").write_text(json.dumps(said))
    for case in (*cases, *tests):
        part = "Tr" if case in cases else "Ts"
        mask = np.zeros((24, 30, 7), np.uint8)
        mask[5:11, 6:12, 2:4] = 1
        hu = painted(mask, np.random.default_rng(len(case))).transpose(2, 1, 0)
        labels = np.where(mask.transpose(1, 0, 2) > 0, 2, 0).astype(np.uint8)
        labels[20:24, 20:22] = 1
        affine = np.diag([0.8, 0.7, 1.5, 1.0])  # RAS: columns and rows run the other way
        for kind, name, array in (("images", f"{case}_0000", hu), ("labels", case, labels)):
            (raw / f"{kind}{part}").mkdir(exist_ok=True)
            nibabel.save(
                nibabel.Nifti1Image(array[::-1, ::-1].copy(), affine),
                raw / f"{kind}{part}" / f"{name}.nii",
            )


def test_datasets_of_others(tmp_path):
    raw = tmp_path / "Dataset007_Clots"
    cases = [f"c{number}" for number in range(1, 7)]
    write_foreign(raw, cases, tests=["t1"])
    for path in raw.glob("*Ts/t1*"):  # it does not say how the patient lies
        image = nibabel.load(path)
        image.set_sform(None, 0)
        image.set_qform(None, 0)
        nibabel.save(nibabel.Nifti1Image(np.array(image.dataobj), None, image.header), path)
    splits = [{"train": cases[1:], "val": cases[:1]}, {"train": cases[2:], "val": cases[:2]}]
    (raw / "splits_final.json").write_text(json.dumps(splits))
    converter = Nnunet(raw, labels=("clot",), fold=1)
    report = convert(converter, tmp_path / "out", converter.settle(RunOptions(quiet=True)))
    assert report_faults(report) == [] and verify(tmp_path / "out") == []
    patients = {
        name: sorted({image["patient_id"] for image in content["images"]})
        for name, content in load_splits(tmp_path / "out").items()
    }
    assert patients == {"train": cases[2:], "val": cases[:2], "test": ["t1"]}
    images = by_slice(tmp_path / "out")
    assert [images["c1", k]["pe_present"] for k in range(7)] == [0, 0, 1, 1, 0, 0, 0]
    (found,) = images["c1", 2]["annotations"]
    assert found["bbox"] == [6, 5, 6, 6] and decode_mask(found["segmentation"]).sum() == 36
    assert images["c1", 0]["spacing_mm"] == pytest.approx([0.7, 0.8, 1.5])
    assert images["c1", 0]["position_mm"] and images["t1", 0]["position_mm"] is None


def test_without_splits_only_test_cases_are_fixed(tmp_path):
    raw = tmp_path / "Dataset007_Clots"
    write_foreign(raw, [f"c{number}" for number in range(1, 7)], tests=["t1"])
    converter = Nnunet(raw, labels=("clot",))
    options = converter.settle(RunOptions(quiet=True))
    assert options.split == (0.7, 0.15, 0.0)
    assert options.known == KnownSplits(people={"t1": {("test", None)}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(channel_names={"0": "CT", "1": "PET"}), "several channels"),
        (dict(file_ending=".png"), "files end in '.png'"),
        (dict(labels={"background": 0, "clot": 1, "ignore": 2}), "to be ignored"),
    ],
)
def test_datasets_that_cannot_be_read(tmp_path, change, words):
    write_foreign(tmp_path / "raw", ["c1"], **change)
    with pytest.raises(DataError, match=words):
        Nnunet(tmp_path / "raw")


def test_a_label_that_lies_elsewhere_is_named(tmp_path):
    raw = tmp_path / "raw"
    write_foreign(raw, ["c1", "c2"])
    image = nibabel.load(raw / "labelsTr" / "c1.nii")
    short = np.array(image.dataobj)[:, :, :-1]
    nibabel.save(nibabel.Nifti1Image(short, image.affine), raw / "labelsTr" / "c1.nii")
    with pytest.raises(DataError, match="has no label embolus; choose of background, vein, clot"):
        Nnunet(raw, labels=("embolus",))
    (raw / "labelsTr" / "c2.nii").unlink()
    report = convert(Nnunet(raw), tmp_path / "out", RunOptions(quiet=True))
    reasons = {entry["patient_id"]: entry["reason"] for entry in report["patients"]}
    assert "does not lie on c1_0000.nii" in reasons["c1"] and "no such label" in reasons["c2"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: image["labels_known"].remove("masks"), "masks of 1 of 9 slices"),
        (lambda image: image.update(z_mm=image["z_mm"] + 0.2), "apart, and NIfTI has an even grid"),
        (lambda image: image.update(z_mm=None), "spacing is not known"),
        (lambda image: image.update(width=image["width"] + 1), "differ in size"),
    ],
)
def test_what_cannot_be_a_case_is_left_out_and_named(exported, tmp_path, change, words):
    data, _, _ = exported
    content = json.loads((data / "annotations" / "train.json").read_text())
    change(content["images"][4])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text(json.dumps(content))
    for name in ("val", "test"):
        text = (data / "annotations" / f"{name}.json").read_text()
        (tmp_path / "annotations" / f"{name}.json").write_text(text)
    cases, left_out, _ = read_cases(tmp_path, "PE")
    ((study, reason),) = left_out.items()
    patient = content["images"][4]["patient_id"]
    assert words in reason and study.startswith(f"{patient}, study ") and len(cases) == 5


def test_a_missing_slice_is_a_gap(exported, tmp_path):
    data, _, _ = exported
    (tmp_path / "annotations").mkdir()
    for name in ("train", "val", "test"):
        content = json.loads((data / "annotations" / f"{name}.json").read_text())
        if name == "train":
            del content["images"][4]
            kept = {image["id"] for image in content["images"]}
            content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
        (tmp_path / "annotations" / f"{name}.json").write_text(json.dumps(content))
    _, left_out, _ = read_cases(tmp_path, "PE")
    assert "slices are missing" in next(iter(left_out.values()))


def test_nothing_is_written_over(exported, tmp_path):
    data, folder, _ = exported
    with pytest.raises(DataError, match="already exists"):
        export(data, folder.parent, 501, "PE")
    for number, name in ((0, "PE"), (1000, "PE"), (1, "P E"), (1, "")):
        with pytest.raises(ValueError, match=r"nnU-Net|letters"):
            export(data, tmp_path, number, name)
    assert not list(tmp_path.iterdir())
