"""Volumes of a converted set: where things lie, what is known, what is left out, what is kept."""

import json
import shutil

import nibabel
import numpy as np
import pytest
from tiny_volumes import ORIGIN, SHAPE, clot_mm, places_mm, write_tiny_volumes

from pe_unified.ct.hu import HU_MIN
from pe_unified.datasets import Draw, PEVolumeDataset, volume_store
from pe_unified.datasets.slice_dataset import DatasetError
from pe_unified.errors import DataError

LOAD = dict(type="LoadVolume")
PACK = dict(type="PackVolumeInputs")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_volumes(tmp_path_factory.mktemp("volumes"))


def dataset(data, split="train", **options):
    structures = options.pop("structures", str(data.parent / "structures"))
    pipeline = options.pop("pipeline", [LOAD, PACK])
    given = dict(pipeline=pipeline, structures=structures, step_mm=1.0, test_mode=True)
    return PEVolumeDataset(f"annotations/{split}.json", str(data), **{**given, **options})


def changed(data, target, split="train", **of_images):
    """A copy of the set in which the slices of one split have other fields."""
    shutil.copytree(data.parent, target)
    path = target / "set" / "annotations" / f"{split}.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        for field, change in of_images.items():
            image[field] = change(image)
    path.write_text(json.dumps(content))
    return target / "set"


def test_what_lies_at_a_place_in_the_patient_lies_there_in_the_volume(data):
    set_of = dataset(data)
    item = set_of[0]
    sample = item["data_samples"]
    study = set_of.get_data_info(0)["record"].study()
    clot = np.argwhere(sample.gt_lesion[0].numpy())
    places = study.positions_mm(sample.grid.indices(clot.astype(float)))
    np.testing.assert_allclose(places.mean(axis=0), clot_mm(0), atol=0.5)
    away = np.linalg.norm(places - clot_mm(0), axis=1)
    assert 4.0 < away.max() < 6.5
    inside = item["inputs"][0].numpy()[tuple(clot.T)]
    assert np.median(inside) == 60
    artery = np.argwhere(sample.gt_artery[0].numpy())
    places = study.positions_mm(sample.grid.indices(artery.astype(float)))
    assert np.linalg.norm((places - clot_mm(0))[:, :2], axis=1).max() < 9.0


def test_lesions_of_a_study_keep_its_own_voxels(data):
    lesions = dataset(data)[0]["data_samples"].gt_lesions
    true = np.linalg.norm(places_mm() - clot_mm(0), axis=-1) <= 5.0
    np.testing.assert_array_equal(lesions.points(), np.argwhere(true))
    assert np.unique(lesions.instances).tolist() == [0, 1] and not lesions.numbered
    assert lesions.spacing_mm == (2.5, 1.5, 1.25)


def test_lesions_are_numbered_as_the_set_does_else_by_their_parts(data, tmp_path):
    """A clot of two parts that the set calls one, and one that it calls two."""
    record = dataset(data).get_data_info(0)["record"]
    with_clot = [index for index, each in enumerate(record.slices) if each["masks"]]
    for slices, expected in (
        # The middle slice has no mask: two parts.
        ([{**each, "masks": [], "numbers": []} if k == with_clot[1] else each
          for k, each in enumerate(record.slices)], 2),
        ([{**each, "numbers": [3] * len(each["masks"])} for each in record.slices], 1),
    ):  # fmt: skip
        found = type(record)(tuple(slices)).lesions()
        assert len(np.unique(found.instances)) - 1 == expected
        assert found.numbered == (expected == 1)


def test_an_unknown_label_is_absent(data, tmp_path):
    part = changed(data, tmp_path / "copy", labels_known=lambda image: ["slice"])
    with pytest.raises(DatasetError, match="its emboli are unknown"):
        dataset(part)
    found = dataset(part, needs=())
    assert np.isnan(found.labels()).all() and found.flow["undecided"] == 3
    sample = found[0]["data_samples"]
    assert "gt_lesion" not in sample and "gt_lesions" not in sample and "gt_artery" in sample
    sample = dataset(data, structures=None)[0]["data_samples"]
    assert "gt_artery" not in sample and "gt_lesion" in sample


def of_first(change):
    """Of one study alone."""
    return lambda image, field: change(image) if image["patient_id"] == "PAT000" else image[field]


@pytest.mark.parametrize(
    ("field", "change", "said"),
    [
        ("spacing_mm", lambda image: [1.5, None, 2.5], "spacing of its voxels is unknown"),
        ("z_mm", lambda image: -240.0, "slices lie at the height of others"),
        ("lung_box", lambda image: None, "no lungs were found"),
        ("lung_share", lambda image: None, "how much of its slices is lung is not known"),
        ("height", lambda image: 40 + image["slice_index"] % 2, "differ in size"),
        ("slice_index", lambda image: 2 * image["slice_index"], "17 of its slices are not in"),
    ],
)
def test_a_study_that_is_no_volume_is_left_out_and_named(data, tmp_path, field, change, said):
    own = of_first(change)
    part = changed(data, tmp_path / "copy", **{field: lambda image: own(image, field)})
    found = dataset(part)
    assert found.patients() == ["PAT001", "PAT002"]
    (told,) = found.flow["left_out"]
    assert told["patient_id"] == "PAT000" and said in told["reason"]


def test_a_set_without_any_volume_says_why(data, tmp_path):
    part = changed(data, tmp_path / "copy", lung_box=lambda image: None)
    with pytest.raises(DatasetError, match=r"none of its 3 studies .*no lungs were found"):
        dataset(part)


def moved(folder, by_mm):
    for path in folder.glob("*.nii.gz"):
        image = nibabel.load(path)
        affine = image.affine.copy()
        affine[2, 3] += by_mm
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), path)


def test_masks_of_another_study_are_refused(data, tmp_path):
    part = changed(data, tmp_path / "copy")
    moved(part.parent / "structures" / "PAT000", 500)
    with pytest.raises(DataError, match=r"lung_arteries does not overlap the study"):
        dataset(part)[0]


def test_a_folder_without_arteries_is_refused(data, tmp_path):
    part = changed(data, tmp_path / "copy")
    folder = part.parent / "structures" / "PAT000"
    (folder / "lung_arteries.nii.gz").rename(folder / "heart_ventricle_left.nii.gz")
    with pytest.raises(DataError, match="holds none of pulmonary_artery, lung_arteries"):
        dataset(part)[0]


def test_masks_need_a_set_that_says_where_slices_lie(data, tmp_path):
    part = changed(data, tmp_path / "copy", position_mm=lambda image: None)
    with pytest.raises(DataError, match="does not give the positions of its slices; convert"):
        dataset(part)[0]


def test_structures_that_are_needed_and_missing(data, tmp_path):
    with pytest.raises(DataError, match="check structures=FOLDER"):
        dataset(data, structures=str(tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match="set structures=FOLDER"):
        dataset(data, structures=None, needs=("arteries",))
    part = changed(data, tmp_path / "copy")
    shutil.rmtree(part.parent / "structures" / "PAT001")
    found = dataset(part, needs=("arteries",))
    assert found.patients() == ["PAT000", "PAT002"]
    assert [each["patient_id"] for each in dataset(part).flow["notes"]] == ["PAT001"]
    assert "gt_artery" not in dataset(part)[1]["data_samples"]


def test_volumes_are_made_once_and_anew_where_their_source_changed(data, tmp_path, monkeypatch):
    part = changed(data, tmp_path / "copy")
    first = dataset(part)[0]
    made = []
    levels_of = volume_store.levels_of
    monkeypatch.setattr(volume_store, "levels_of", lambda *a: made.append(1) or levels_of(*a))
    again = dataset(part)[0]
    assert not made
    assert (again["inputs"] == first["inputs"]).all()
    dataset(part, step_mm=2.0)[0]
    assert len(made) == 3  # one image, two labels
    made.clear()
    annotations = part / "annotations" / "train.json"
    content = json.loads(annotations.read_text())
    (first_mask, *_) = content["annotations"]
    first_mask["segmentation"] = content["annotations"][1]["segmentation"]
    annotations.write_text(json.dumps(content))
    changed_labels = dataset(part)[0]
    assert len(made) == 2  # the labels alone
    assert (changed_labels["inputs"] == first["inputs"]).all()
    lesion = changed_labels["data_samples"].gt_lesion
    assert not (lesion == first["data_samples"].gt_lesion).all()


def test_a_damaged_volume_is_made_anew(data, tmp_path):
    part = changed(data, tmp_path / "copy")
    first = dataset(part)[0]["inputs"].clone()
    for damage in (b"", b"nonsense"):
        for stored in (part / "volumes").glob("PAT000-*.hu.npy"):
            stored.write_bytes(damage)
        assert (dataset(part)[0]["inputs"] == first).all()


def test_a_store_that_cannot_be_written_to_is_told(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be stored there .*store=FOLDER"):
        dataset(data, store=str(tmp_path / "file" / "volumes"))[0]


PATCHES = dict(type="LoadVolumePatches", size=16, count=2)


def test_patches_depend_on_the_draw_alone(data):
    found = dataset(data, pipeline=[dict(PATCHES, geometry=dict()), PACK], test_mode=False)
    one, same, other = (found[Draw(0, seed)] for seed in (7, 7, 8))
    assert one["inputs"].shape == (2, 16, 16, 16) and one["inputs"].dtype.is_signed
    assert (one["inputs"] == same["inputs"]).all()
    assert (one["data_samples"].gt_lesion == same["data_samples"].gt_lesion).all()
    assert not (one["inputs"] == other["inputs"]).all()


def test_a_patch_shows_what_the_volume_holds_there(data):
    whole = dataset(data)[0]
    found = dataset(data, pipeline=[PATCHES, PACK])[Draw(0, 3)]
    for number, start in enumerate(found["data_samples"].starts):
        box = tuple(slice(at, at + 16) for at in start)
        part = whole["inputs"][0][box]
        np.testing.assert_array_equal(found["inputs"][number], part)
        for field in ("gt_lesion", "gt_artery"):
            labels = whole["data_samples"].get(field)[0][box]
            np.testing.assert_array_equal(found["data_samples"].get(field)[number], labels)


def test_a_volume_smaller_than_a_patch_lies_in_its_middle(data):
    whole = dataset(data)[0]["inputs"][0].numpy()
    found = dataset(data, pipeline=[dict(PATCHES, size=96), PACK])[Draw(0, 3)]["inputs"].numpy()
    before = [-(-(96 - side) // 2) for side in whole.shape]
    box = tuple(slice(a, a + side) for a, side in zip(before, whole.shape))
    np.testing.assert_array_equal(found[0][box], whole)
    found[0][box] = HU_MIN
    assert (found[0] == HU_MIN).all()


def test_the_set_places_its_slices(data):
    study = dataset(data).get_data_info(1)["record"].study()
    np.testing.assert_allclose(study.position_mm(0, 0, 0), ORIGIN)
    np.testing.assert_allclose(study.position_mm(3, 2, 4), places_mm()[3, 2, 4])
    assert study.shape == SHAPE and study.placed
