import numpy as np
import pytest
import torch
from tiny_exams import change, exam_labels, write_tiny_exams

from pe_unified.ct.exam_labels import EXAM_TARGETS, exam_targets
from pe_unified.datasets import DatasetError, Draw, PEExamDataset
from pe_unified.datasets.feature_store import FeatureError, FeatureSource, FeatureStore

TRAIN = [
    dict(type="LoadExamSlices"),
    dict(type="CropToLungs", margin_mm=0.0, size=32),
    dict(type="ResizeSlice", size=32),
    dict(type="RandomSliceGeometry", flip=1.0, rotate=0.0, scale=(1.0, 1.0), shift=0.0),
    dict(type="HUJitter"),
    dict(type="CTWindows", windows=["pe", "lung"]),
    dict(type="PackExamInputs"),
]
TEST = [step for step in TRAIN if step["type"] not in ("RandomSliceGeometry", "HUJitter")]
CHUNKS = dict(type="ChunkSteps", planes=4, spacing_mm=2.5)


@pytest.fixture
def data(tmp_path):
    return write_tiny_exams(tmp_path / "data")


def exams(data, split="train", pipeline=TEST, **settings):
    return PEExamDataset(f"annotations/{split}.json", str(data), pipeline, **settings)


def test_an_exam_is_a_sequence_of_slices_with_the_labels_of_the_whole(data):
    dataset = exams(data, steps=dict(type="SliceSteps", neighbours=1, span="lungs"))
    assert len(dataset) == 8
    item = dataset[3]
    assert item["inputs"].shape == (8, 6, 32, 32) and item["inputs"].dtype == torch.uint8
    sample = item["data_samples"]
    np.testing.assert_array_equal(sample.gt_exam, np.float32(exam_targets(exam_labels(3))))
    assert sample.gt_steps.tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert sample.step_ids[0] == "1.2.3.1.2" and sample.z_mm[0] == 5.0
    # Channels run over slices, then windows: a slice is the last neighbour of the one below it.
    np.testing.assert_array_equal(item["inputs"][2, 4:6], item["inputs"][3, 2:4])


def test_a_chunk_is_a_volume_that_is_positive_where_any_slice_is(data):
    dataset = exams(data, steps=dict(CHUNKS, span="all"))
    item = dataset[1]
    assert item["inputs"].shape == (3, 2, 4, 32, 32)  # steps, windows, planes, rows, cols
    assert item["data_samples"].gt_steps.tolist() == [0, 1, 0]
    slices = exams(data, steps=dict(type="SliceSteps"))[1]["inputs"]
    np.testing.assert_array_equal(item["inputs"][1, 0], slices[4:8, 0])


def test_single_steps_can_be_the_items(data):
    dataset = exams(data, steps=dict(CHUNKS, span="all"), unit="step", needs=("steps",))
    assert len(dataset) == 8 * 3
    assert dataset[4]["inputs"].shape == (1, 2, 4, 32, 32)
    assert np.nansum(dataset.labels()) == 4
    assert exams(data).labels().tolist() == [0, 1] * 4


def test_an_exam_is_augmented_as_one_and_a_flip_exchanges_the_sides(data):
    dataset = exams(data, pipeline=TRAIN)
    drawn, again = dataset[Draw(1, 5)], dataset[Draw(1, 5)]
    assert torch.equal(drawn["inputs"], again["inputs"])
    assert not torch.equal(drawn["inputs"], dataset[Draw(1, 6)]["inputs"])
    left, right = EXAM_TARGETS.index("leftsided_pe"), EXAM_TARGETS.index("rightsided_pe")
    assert exam_labels(1)["rightsided_pe"] == 1
    targets = drawn["data_samples"].gt_exam
    assert (targets[left], targets[right]) == (1, 0)
    still = exams(data)[1]["inputs"].float().ravel()  # noise and contrast differ, places do not
    moved = drawn["inputs"].float()
    same, mirrored = (np.corrcoef(still, x.ravel())[0, 1] for x in (moved, moved.flip(-1)))
    assert mirrored > 0.98 > same + 0.01


def test_exams_that_cannot_be_used_are_left_out_and_listed(data):
    def edit(content):
        content["images"] = [i for i in content["images"] if i["study_uid"] != "1.2.0"]
        content["exams"][1].update({name: None for name in exam_labels(1)})
        content["exams"][2].update(negative_exam_for_pe=0, indeterminate=1)
        content["exams"][3].update(leftsided_pe=0)

    change(data, "train", edit)
    dataset = exams(data, needs=("exam",), indeterminate="leave_out")
    assert len(dataset) == 5
    left = {each["study_uid"]: each["reason"] for each in dataset.flow["left_out"]}
    assert left == {
        "1.2.0": "no slices",
        "1.2.1": "no label of the exam is known",
        "1.2.2": "indeterminate",
    }
    assert {"exams": 8, "kept": 5, "positive": 3, "negative": 2}.items() <= dataset.flow.items()
    (note,) = dataset.flow["notes"]
    assert note["study_uid"] == "1.2.3" and "none of leftsided_pe" in note["reason"]


@pytest.mark.parametrize("settings", [{}, dict(unit="step", needs=("steps",))])
def test_every_exam_is_kept_or_left_out(data, settings):
    """Of the second exam, labels are known outside of the lungs only; one in two is taken."""

    def edit(content):
        for image in content["images"]:
            if image["study_uid"] == "1.2.1" and 2 <= image["slice_index"] < 10:
                image["labels_known"], image["pe_present"] = [], None

    change(data, "train", edit)
    steps = dict(type="SliceSteps", span="lungs")
    for every in (1, 2):
        flow = exams(data, steps=steps, every=every, **settings).flow
        assert flow["kept"] + len(flow["left_out"]) == flow["exams"] == 8
        assert flow["positive"] + flow["negative"] + flow["undecided"] == flow["kept"]
        reasons = [each["reason"] for each in flow["left_out"]]
        known = ["no label of a step is known"] if settings and every == 1 else []
        assert reasons == (["skipped by every=2"] * 4 if every == 2 else known)


def test_a_study_without_an_entry_is_an_exam_of_which_nothing_is_known(data):
    def edit(content):
        del content["exams"][3]

    change(data, "train", edit)
    dataset = exams(data)
    assert len(dataset) == 8
    (sample,) = [
        item["data_samples"] for item in dataset if item["data_samples"].study_uid == "1.2.3"
    ]
    assert sample.gt_exam.isnan().all() and sample.gt_steps.sum() == 4
    assert len(exams(data, needs=("exam",))) == 7


def test_an_indeterminate_exam_has_no_answer_unless_it_counts_as_positive(data):
    def edit(content):
        content["exams"][0].update(negative_exam_for_pe=0, indeterminate=1)

    change(data, "train", edit)
    assert np.isnan(exams(data).labels()[0])
    assert exams(data, indeterminate="positive").labels()[0] == 1
    assert exams(data).flow["undecided"] == 1


def test_no_exam_left_is_an_error_that_says_why(data):
    def edit(content):
        content["images"] = []

    change(data, "train", edit)
    with pytest.raises(DatasetError, match=r"none of its 8 exams can be used.*8: no slices"):
        exams(data)


def test_hidden_labels_are_unknown_in_training_only(data):
    labels = exams(data, masked_label_portion=0.5, unit="step").labels()
    assert np.isnan(labels).sum() == round(0.5 * len(labels))
    gone = exams(data, masked_label_portion=1.0)
    assert all(gone[k]["data_samples"].gt_steps.isnan().all() for k in range(len(gone)))
    assert not np.isnan(gone[1]["data_samples"].gt_exam).all()
    with pytest.raises(ValueError, match="for training"):
        exams(data, masked_label_portion=0.5, test_mode=True)


def test_hidden_chunks_are_negative_and_positive_ones_alike(data):
    settings = dict(steps=dict(CHUNKS, span="all"), unit="step")
    whole = exams(data, **settings).labels()
    for mode in ("even", "exams"):
        shown = exams(data, masked_label_portion=0.5, masked_label_mode=mode, **settings).labels()
        assert np.isnan(shown).sum() == 12 and {0.0, 1.0} <= set(shown)
        np.testing.assert_array_equal(shown, np.where(np.isnan(shown), np.nan, whole))


def test_neither_series_nor_patients_are_mixed(data):
    def edit(content):
        for image in content["images"]:
            if image["study_uid"] == "1.2.1" and image["slice_index"] < 4:
                image["series_uid"] = "another"

    change(data, "train", edit)
    dataset = exams(data)
    assert dataset[1]["inputs"].shape[0] == 8
    assert "2 series" in dataset.flow["notes"][0]["reason"]


SOURCE = FeatureSource({"type": "E"}, "w", [{"type": "P"}], {"type": "SliceSteps"}, {})


def test_features_stand_for_the_slices(data, tmp_path):
    store = FeatureStore.create(tmp_path, SOURCE)
    whole = exams(data)
    names = [whole.get_data_info(k)["stored"] for k in range(8)]
    assert len(set(names)) == 8 and store.missing(names) == names
    for k, name in enumerate(names):
        store.write(name, np.arange(12)[:, None] + 100 * np.full(5, k))
    pipeline = [dict(type="LoadStepFeatures"), dict(type="PackExamInputs")]
    dataset = exams(data, pipeline=pipeline, features=str(store.folder), max_steps=6)
    item = dataset[3]
    assert item["inputs"].shape == (6, 5) and item["inputs"].dtype == torch.float16
    kept = [0, 2, 4, 7, 9, 11]
    assert item["inputs"][:, 0].tolist() == [300 + k for k in kept]
    assert (
        item["data_samples"].gt_steps.tolist() == whole[3]["data_samples"].gt_steps[kept].tolist()
    )
    assert item["data_samples"].step_ids == [f"1.2.3.1.{k}" for k in kept]
    single = exams(data, pipeline=pipeline, features=str(store.folder), unit="step")[3 * 12 + 7]
    assert single["inputs"][:, 0].tolist() == [307]
    assert single["data_samples"].step_ids == ["1.2.3.1.7"]
    with pytest.raises(FeatureError, match="features=FOLDER"):
        exams(data, pipeline=pipeline)[0]


def test_a_store_is_never_that_of_another_network_or_input(tmp_path):
    first = FeatureStore.create(tmp_path, SOURCE)
    first.write("1.2", np.ones((3, 2)))
    again = FeatureStore.create(tmp_path, SOURCE)
    assert again.folder == first.folder and not again.missing(["1.2"])
    others = dict(weights="v", pipeline=[], steps={}, encoder={}, normalisation={"mean": 1})
    for name, value in others.items():
        other = FeatureStore.create(tmp_path, FeatureSource(**{**vars(SOURCE), name: value}))
        assert other.folder != first.folder and other.missing(["1.2"])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "no features of study 1.2.3 as it is now; run the extrac"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "are damaged"),
        (lambda path: path.write_bytes(b""), "are damaged"),
    ],
)
def test_features_that_cannot_be_used_name_the_study_and_the_cure(tmp_path, harm, message):
    store = FeatureStore.create(tmp_path, SOURCE)
    store.write("1.2.3-ab", np.ones((12, 5)))
    harm(store.folder / "1.2.3-ab.npy")
    with pytest.raises(FeatureError, match=message):
        store.read("1.2.3-ab")


def test_a_folder_without_a_store_is_named(tmp_path):
    with pytest.raises(FeatureError, match=r"no store\.json"):
        FeatureStore(tmp_path / "nothing")
