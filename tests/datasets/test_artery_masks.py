"""Arteries on the slices of a set, and emboli pasted into them."""

import json
import shutil

import cv2
import numpy as np
import pytest
from vessel_set import SIDE, SLICES, VESSELS, write_arteries, write_vessel_set

from pe_unified.datasets import Draw, PESliceDataset
from pe_unified.datasets.slice_dataset import DatasetError
from pe_unified.engine.runner import features_key
from pe_unified.errors import DataError

LOAD = (dict(type="LoadCTSlice"), dict(type="LoadPELabels"))
PASTE = dict(type="PasteEmboli", probability=1.0, widest=9.0)


def vessel_of(index: int) -> int:
    """The wide vessel is an artery in every third slice, a narrow one in the others."""
    return 0 if index % 3 == 0 else 1 + index % 2


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = write_vessel_set(tmp_path_factory.mktemp("vessels"))
    write_arteries(root / "structures", vessel_of)
    return root


@pytest.fixture
def own(data, tmp_path):
    return shutil.copytree(data, tmp_path / "own")


def dataset(data, *steps, **options):
    options.setdefault("structures", str(data / "structures"))
    return PESliceDataset("annotations/train.json", str(data), [*LOAD, *steps], **options)


def disc(index: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(mask, *VESSELS[vessel_of(index)], 1, -1)
    return mask > 0


def test_every_slice_has_its_own_arteries(data):
    slices = dataset(data)
    for index in range(SLICES):
        np.testing.assert_array_equal(slices[index]["arteries"](), disc(index))
    assert dataset(data, structures=None)[0]["arteries"] is None
    assert features_key(slices) is None, "arteries are no features of a backbone"


@pytest.mark.parametrize("crop", [(), (dict(type="CropToLungs", margin_mm=2.0),)])
def test_emboli_are_pasted_into_arteries_also_into_wide_ones_outside_the_lungs(data, crop):
    before, pasting = dataset(data, *crop), dataset(data, *crop, PASTE)
    pasted_into = set()
    for index in range(1, SLICES):
        for seed in range(8):
            draw = Draw(index, seed)
            old, new = before[draw], pasting[draw]
            pasted = (new["instance_map"] > 0) & (old["instance_map"] == 0)
            x0, y0, x1, y1 = new["crop_box"]
            assert not (pasted & ~disc(index)[y0:y1, x0:x1]).any()
            if pasted.any():
                pasted_into.add(vessel_of(index))
    assert pasted_into == {0, 1, 2}


def test_a_patient_without_masks_is_searched_by_attenuation(own):
    coco = json.loads((own / "annotations/train.json").read_text())
    for image in coco["images"][:6]:
        image.update(patient_id="PAT001", study_uid="1.2.1", series_uid="1.2.1.1")
        image["file_name"] = image["file_name"].replace("PAT000", "PAT001")
    shutil.copytree(own / "images/PAT000", own / "images/PAT001")
    (own / "annotations/train.json").write_text(json.dumps(coco))
    slices = dataset(own, PASTE)
    known = {
        each["patient_id"]: each["arteries"] is not None
        for each in map(slices.__getitem__, range(SLICES))
    }
    assert known == {"PAT000": True, "PAT001": False}
    (negative,) = (i for i in range(SLICES) if slices.get_data_info(i)["slice_index"] == 2)
    found = [slices[Draw(negative, seed)]["instance_map"] > 0 for seed in range(10)]
    assert (np.any(found, axis=0) & ~disc(2)).any()


def test_masks_are_read_once_and_anew_where_they_changed(own):
    first = dataset(own)[3]["arteries"]()
    (stored,) = (own / "volumes").glob("*.arteries.npy")
    written = stored.stat().st_mtime_ns
    assert (dataset(own)[3]["arteries"]() == first).all()
    assert stored.stat().st_mtime_ns == written
    stored.write_bytes(b"damaged")
    assert (dataset(own)[3]["arteries"]() == first).all()
    shutil.rmtree(own / "structures")
    write_arteries(own / "structures", lambda index: 3)
    assert not (dataset(own)[3]["arteries"]() & first).any()


def test_names_of_labels_that_were_corrected_count(own):
    """Label maps get the names of their labels from a file beside them."""
    mask = own / "structures/PAT000/lung_arteries.nii.gz"
    mask.rename(own / "structures/PAT000.nii.gz")
    mask.parent.rmdir()
    names = own / "structures/PAT000.json"
    names.write_text('{"lung_arteries": 2}')
    assert not dataset(own)[3]["arteries"]().any()
    names.write_text('{"lung_arteries": 1, "x": 2}')
    np.testing.assert_array_equal(dataset(own)[3]["arteries"](), disc(3))


def test_a_mask_of_the_study_comes_before_one_of_the_patient(own):
    write_arteries(own / "other", lambda index: 3)
    uid = dataset(own).get_data_info(0)["study_uid"]
    (own / "other/PAT000").rename(own / "structures" / uid)
    assert not (dataset(own)[3]["arteries"]() & disc(3)).any()


def test_a_folder_of_other_patients_is_refused_where_it_would_be_used(own):
    with pytest.raises(DataError, match=r"nowhere: no folder of structures; check structures=FOLD"):
        dataset(own, structures=str(own / "nowhere"))
    (own / "structures/PAT000").rename(own / "structures/PAT777")
    with pytest.raises(
        DatasetError, match=r"no masks of any patient in .*train\.json; name a folder"
    ):
        dataset(own)
    assert dataset(own, test_mode=True)[0]["arteries"] is None


def test_masks_need_a_set_that_says_where_slices_lie(own):
    coco = json.loads((own / "annotations/train.json").read_text())
    for image in coco["images"]:
        del image["position_mm"]
    (own / "annotations/train.json").write_text(json.dumps(coco))
    with pytest.raises(DataError, match="does not give the positions of its slices; convert"):
        dataset(own)
