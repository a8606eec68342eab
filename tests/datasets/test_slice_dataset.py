import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from tiny_dataset import write_tiny_dataset

from pe_unified.datasets import DatasetError, Draw, PESliceDataset
from pe_unified.evaluation.slices import SliceTable
from pe_unified.registry import METRICS

LOADING = [
    dict(type="LoadCTSlice"),
    dict(type="LoadPELabels"),
    dict(type="CTWindows"),
    dict(type="PackPEInputs"),
]


def dataset(root, split="train", **kwargs):
    kwargs.setdefault("pipeline", LOADING)
    return PESliceDataset(ann_file=f"annotations/{split}.json", data_root=str(root), **kwargs)


def edit(root, split, change):
    path = root / "annotations" / f"{split}.json"
    coco = json.loads(path.read_text())
    change(coco)
    path.write_text(json.dumps(coco))


def test_item_carries_image_labels_and_provenance(tiny_dataset):
    data = dataset(tiny_dataset)
    item = data[1]
    sample = item["data_samples"]
    assert item["inputs"].shape == (3, 64, 64)
    assert item["inputs"].dtype.is_floating_point is False
    assert sample.gt_label.tolist() == [1]
    assert sample.gt_sem_seg.data.shape == (1, 64, 64)
    assert len(sample.gt_instances.bboxes) == 1
    assert sample.patient_id == "PAT000"
    assert sample.slice_index == 1


def test_groups_of_patients_reach_the_metrics(tmp_path):
    data = write_tiny_dataset(tmp_path)
    edit(data, "test", lambda coco: [i.update(group="anatomy 1") for i in coco["images"][:6]])
    samples = [item["data_samples"] for item in dataset(data, "test", test_mode=True)]
    assert [sample.group for sample in samples] == ["anatomy 1"] * 6 + [None] * 12
    metric = METRICS.build(dict(type="SliceMetric"))
    for sample in samples:
        sample.pred_score = torch.tensor([0.4, 0.6])
        metric.process(None, [sample.to_dict()])
    metric.evaluate(len(samples))
    metric.table.save(tmp_path / "cls.npz")
    kept = SliceTable.load(tmp_path / "cls.npz")
    assert kept.groups == ("anatomy 1", *kept.patients[1:]) and kept.units.tolist() == [2, 0, 1]


def test_boxes_are_tight_around_the_mask(tiny_dataset):
    sample = dataset(tiny_dataset)[1]["data_samples"]
    rows, cols = np.nonzero(sample.gt_sem_seg.data[0].numpy())
    expected = [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
    assert sample.gt_instances.bboxes.tolist() == [expected]


def test_unknown_labels_stay_unknown(tmp_path):
    root = write_tiny_dataset(tmp_path / "set", splits={"train": 1})

    def forget(coco):
        coco["images"][0]["labels_known"] = ["slice"]
        coco["images"][2]["labels_known"] = []
        coco["images"][2]["pe_present"] = None

    edit(root, "train", forget)
    data = dataset(root)
    only_slice = data[0]["data_samples"]
    assert "gt_label" in only_slice
    assert "gt_sem_seg" not in only_slice
    assert "gt_instances" not in only_slice
    assert "gt_label" not in data[2]["data_samples"]
    assert np.isnan(data.labels()[2])
    assert len(dataset(root, needs=("masks",))) == len(data) - 2


def test_negative_slice_has_empty_mask_and_no_boxes(tiny_dataset):
    sample = dataset(tiny_dataset)[0]["data_samples"]
    assert sample.gt_label.tolist() == [0]
    assert sample.gt_sem_seg.data.sum() == 0
    assert sample.gt_instances.bboxes.shape == (0, 4)


def test_neighbours_are_of_the_same_series_and_repeat_at_the_ends(tiny_dataset):
    data = dataset(tiny_dataset, neighbours=1, pipeline=[])
    first, last = data[0]["slice_paths"], data[5]["slice_paths"]
    assert first[0] == first[1] and first[2].endswith("PAT000/0001.png")
    assert last[2] == last[1] and last[0].endswith("PAT000/0004.png")
    assert all("PAT001" in path for path in data[6]["slice_paths"])


def test_two_series_of_a_study_are_no_neighbours(tmp_path):
    root = write_tiny_dataset(tmp_path / "set", splits={"train": 1})
    edit(root, "train", lambda coco: [i.update(series_uid="2") for i in coco["images"][::2]])
    data = dataset(root, neighbours=1, pipeline=[])
    paths = {int(path[-8:-4]) % 2 for k in range(3) for path in data[k]["slice_paths"]}
    assert len(paths) == 1


def test_a_positive_slice_without_its_embolus_in_view_is_negative(tiny_dataset):
    def cut_away(results):
        results["instance_map"][:] = 0
        return results

    data = dataset(tiny_dataset, pipeline=[*LOADING[:2], cut_away, *LOADING[2:]])
    assert data.labels()[1] == 1
    assert data[1]["data_samples"].gt_label.tolist() == [0]


def test_every_embolus_has_its_own_number(tmp_path):
    root = write_tiny_dataset(tmp_path / "set", splits={"train": 1})

    def add_another(coco):
        mask = np.zeros((64, 64), dtype=np.uint8, order="F")
        mask[:3, :4] = 1
        code = coco_mask.encode(mask)
        other = {"size": code["size"], "counts": code["counts"].decode()}
        coco["annotations"].append({**coco["annotations"][0], "id": 99, "segmentation": other})

    edit(root, "train", add_another)
    instances = dataset(root, pipeline=LOADING[:2])[1]["instance_map"]
    assert np.unique(instances).tolist() == [0, 1, 2]
    assert (instances[:3, :4] == 2).all()


@pytest.mark.parametrize("missing", [None, ""])
def test_sets_without_uids_keep_patients_apart(tmp_path, missing):
    root = write_tiny_dataset(tmp_path / "set", splits={"train": 2})
    edit(root, "train", lambda coco: [i.update(series_uid=missing) for i in coco["images"]])
    data = dataset(root, neighbours=1, every=4, pipeline=[])
    assert [data.get_data_info(k)["slice_index"] for k in range(4)] == [0, 4, 0, 4]
    assert all("PAT001" in path for path in data[2]["slice_paths"])


def test_a_subset_has_no_neighbours_from_afar(tmp_path):
    root = write_tiny_dataset(tmp_path / "set", splits={"train": 1})
    edit(root, "train", lambda coco: coco.update(images=[coco["images"][k] for k in (0, 3, 4)]))
    data = dataset(root, neighbours=2, pipeline=[])
    numbers = [[int(path[-8:-4]) for path in data[k]["slice_paths"]] for k in range(3)]
    assert numbers == [[0, 0, 0, 0, 0], [3, 3, 3, 4, 4], [3, 3, 4, 4, 4]]


def test_neighbours_become_channels(tiny_dataset):
    assert dataset(tiny_dataset, neighbours=2)[3]["inputs"].shape == (15, 64, 64)


def test_same_draw_gives_the_same_augmentation(tiny_dataset):
    augmented = [LOADING[0], LOADING[1], dict(type="HUJitter", probability=1.0), *LOADING[2:]]
    data = dataset(tiny_dataset, pipeline=augmented)
    first, again, other = (data[Draw(3, seed)]["inputs"] for seed in (7, 7, 8))
    assert first.equal(again)
    assert not first.equal(other)


def test_every_thins_each_study(tiny_dataset):
    data = dataset(tiny_dataset, every=3)
    assert [data.get_data_info(k)["slice_index"] for k in range(4)] == [0, 3, 0, 3]


def test_missing_annotations_name_the_cure(tmp_path):
    with pytest.raises(FileNotFoundError, match="pe-unified convert"):
        dataset(tmp_path)


def test_nothing_left_is_an_error(tmp_path):
    root = write_tiny_dataset(tmp_path / "set", splits={"train": 1})
    edit(root, "train", lambda coco: [i.update(labels_known=[]) for i in coco["images"]])
    with pytest.raises(DatasetError, match="label of the kind masks; take a config"):
        dataset(root, needs=("masks",))


def test_foreign_hu_offset_is_refused(tmp_path):
    root = write_tiny_dataset(tmp_path / "set", splits={"train": 1})
    edit(root, "train", lambda coco: coco["info"].update(hu_offset=0))
    with pytest.raises(DatasetError, match="hu_offset"):
        dataset(root)


def test_mask_of_another_size_is_refused(tmp_path):
    root = write_tiny_dataset(tmp_path / "set", splits={"train": 1})
    edit(
        root,
        "train",
        lambda coco: coco["annotations"][0]["segmentation"].update(size=[32, 32]),
    )
    with pytest.raises(DatasetError, match="verify"):
        dataset(root)[1]


def test_misspelt_need_is_refused(tiny_dataset):
    with pytest.raises(ValueError, match="label kinds"):
        dataset(tiny_dataset, needs=("mask",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "not valid JSON"),
        ("[]", "plain COCO"),
        ('{"images": [{"id": 1}], "annotations": []}', "plain COCO"),
    ],
)
def test_other_files_than_the_converters_are_named(tmp_path, text, message):
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(DatasetError, match=rf"train\.json: {message}"):
        PESliceDataset("train.json", str(tmp_path))


def test_a_foreign_sampler_does_not_freeze_the_augmentation(tiny_dataset):
    """Its draws carry no seed; a slice would else look the same in every round."""
    pipeline = [lambda item: float(item["rng"].random())]
    torch.manual_seed(0)
    trains = dataset(tiny_dataset, pipeline=pipeline)
    rounds = [trains[3] for _ in range(4)]
    assert len(set(rounds)) == 4
    torch.manual_seed(0)
    assert [trains[3] for _ in range(4)] == rounds
    assert trains[Draw(3, 5)] == trains[Draw(3, 5)]
    tests = dataset(tiny_dataset, pipeline=pipeline, test_mode=True)
    assert tests[3] == tests[3]


def test_a_damaged_slice_is_named_with_its_patient(tmp_path):
    root = write_tiny_dataset(tmp_path / "set", splits={"train": 1})
    data = dataset(root)
    path = Path(data.get_data_info(1)["img_path"])
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DatasetError, match=r"patient PAT000: .*0001\.png cannot be decoded"):
        data[1]


def test_slices_are_labelled_by_the_largest_share_of_lung_in_their_series(tmp_path):
    """Shares of another patient do not bear on it; emboli are forgotten with their masks."""
    root = write_tiny_dataset(tmp_path)

    def give_shares(coco):
        shares = [0.2, 0.1, 0.099, 0.0, None, 0.01, *[0.4, 0.2, 0.1, 0.0, 0.0, 0.0]]
        for image, share in zip(coco["images"], [*shares, *[0.0] * 6], strict=True):
            image["lung_share"] = share

    edit(root, "test", give_shares)
    data = dataset(root, "test", label="lung", test_mode=True)
    expected = [1, 1, 0, 0, np.nan, 0, *[1, 1, 0, 0, 0, 0], *[0] * 6]
    np.testing.assert_array_equal(data.labels(), expected)
    samples = [item["data_samples"] for item in data]
    assert all("gt_sem_seg" not in each and "gt_instances" not in each for each in samples)
    assert [int(each.gt_label) for each in samples if "gt_label" in each] == [
        label for label in expected if label == label
    ]
    assert len(dataset(root, "test", label="lung", needs=("slice",))) == 17
    lower = dataset(root, "test", label="lung", lung_from=0.05)
    assert lower.labels()[:4].tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("wrong", [dict(label="lungs"), dict(label="lung", lung_from=0.0)])
def test_labels_that_there_are_not(tiny_dataset, wrong):
    with pytest.raises(ValueError, match=r"label is one of .*'pe', 'lung'.* lung_from above 0"):
        dataset(tiny_dataset, **wrong)
