import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from tiny_exam_run import small_exam_config
from tiny_exams import change, write_tiny_exams

from pe_unified.checkpoints import load_checkpoint_safely
from pe_unified.datasets import FeatureStore
from pe_unified.datasets.sources import study_digest
from pe_unified.engine import ConfigError, PERunner
from pe_unified.engine.evaluate import evaluate_checkpoint
from pe_unified.engine.extract import extract
from pe_unified.engine.publish import publish
from pe_unified.errors import CheckpointError, UserError
from pe_unified.registry import DATASETS, MODELS

pytestmark = pytest.mark.usefixtures("unrendered")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_exams(tmp_path_factory.mktemp("exams") / "data")


@pytest.fixture(scope="module")
def trained(repository, data, unrendered):
    """A trained model of slices, as exams of steps that do not know of each other."""
    work_dir = data.parent / "slices"
    cfg = small_exam_config(repository, data, work_dir, "shared_features", max_iters=2)
    PERunner.from_cfg(cfg).train()
    return cfg, work_dir / "iter_2.pth"


@pytest.fixture
def encoder(trained):
    """The same, to be changed: it is put right after the test."""
    cfg, checkpoint = trained
    stored = checkpoint.read_bytes()
    yield copy.deepcopy(cfg), checkpoint
    checkpoint.write_bytes(stored)


def built(stored, part=MODELS):
    with DefaultScope.overwrite_default_scope("pe_unified"):
        return part.build(stored)


def test_features_are_what_the_encoder_gives_of_the_test_input(encoder, data, tmp_path):
    cfg, checkpoint = encoder
    found = extract(cfg, tmp_path / "out", checkpoint)
    assert found.exams == 16
    model = built(cfg.model).eval()
    model.load_state_dict(load_checkpoint_safely(checkpoint)["state_dict"])
    exams = built({**cfg.test_dataloader.dataset, "ann_file": "annotations/train.json"}, DATASETS)
    for number in (0, 5):
        item, name = exams[number], exams.get_data_info(number)["stored"]
        batch = model.data_preprocessor({"inputs": [item["inputs"]]})
        with torch.no_grad():
            golden = model(batch["inputs"], batch["mask"])["features"][0].numpy()
        stored = found.store.read(name)
        np.testing.assert_allclose(stored, golden, rtol=2e-3, atol=1e-4)


def test_it_goes_on_where_it_stopped_and_other_weights_have_a_folder_of_their_own(
    encoder, repository, data, tmp_path
):
    cfg, checkpoint = encoder
    first = extract(cfg, tmp_path / "out", checkpoint)
    (lost,) = first.store.folder.glob("1.2.7-*.npy")
    lost.unlink()
    again = extract(cfg, tmp_path / "out", checkpoint)
    assert again.store.folder == first.store.folder and lost.is_file()
    stored = torch.load(checkpoint, weights_only=True)
    stored["state_dict"]["encoder.backbone.conv1.weight"] += 1
    torch.save(stored, tmp_path / "other.pth")
    other = extract(cfg, tmp_path / "out", tmp_path / "other.pth")
    assert other.store.folder != first.store.folder
    # Each keeps its own network, without a head that nobody taught.
    names = load_checkpoint_safely(first.store.encoder)["state_dict"]
    assert names and all(name.startswith("encoder.") for name in names)
    torch.save(stored["state_dict"], tmp_path / "bare.pth")
    assert extract(cfg, tmp_path / "out", tmp_path / "bare.pth").store.key == other.store.key
    cfg.test_dataloader.dataset.pipeline[3].windows = ["lung", "lung", "lung"]
    assert extract(cfg, tmp_path / "out", checkpoint).store.key not in (
        first.store.key,
        other.store.key,
    )


def test_processes_share_the_exams_whatever_each_has_stored_before(
    encoder, data, tmp_path, monkeypatch
):
    cfg, checkpoint = encoder
    for rank in (0, 1):  # the second one looks for what is missing when the first has ended
        monkeypatch.setattr("pe_unified.engine.extract.get_dist_info", lambda rank=rank: (rank, 2))
        store = extract(cfg, tmp_path / "out", checkpoint).store
    assert len(list(store.folder.glob("*.npy"))) == 16


def test_an_exam_that_cannot_be_read_is_named_and_the_others_are_done(encoder, data, tmp_path):
    cfg, checkpoint = encoder
    image = data / "images/PAT003/0005.png"
    stored = image.read_bytes()
    image.write_bytes(b"no picture")
    try:
        with pytest.raises(UserError, match=r"PAT003.*the features of all other exams are in"):
            extract(cfg, tmp_path / "out", checkpoint)
    finally:
        image.write_bytes(stored)
    (folder,) = (tmp_path / "out").glob("features-*")
    assert len(list(folder.glob("*.npy"))) == 15
    assert not list(folder.glob("1.2.3-*")) and list(folder.glob("1.2.4-*"))


def test_an_encoder_without_weights_extracts_nothing(repository, data, tmp_path):
    cfg = small_exam_config(repository, data, tmp_path / "w", "shared_features")
    with pytest.raises(ConfigError, match="the encoder has no trained weights"):
        extract(cfg, tmp_path / "out")
    cfg = small_exam_config(repository, data, tmp_path / "w", "shared_gru", features="there")
    with pytest.raises(ConfigError, match="no encoder"):
        extract(cfg, tmp_path / "out")


def test_pretrained_weights_are_the_whole_encoder_or_none(repository, data, tmp_path):
    taught = {"set": "s", "studies": ["a digest"]}
    cfg = small_exam_config(repository, data, tmp_path / "w", "shared_features")
    backbone = built(cfg.model.encoder.backbone)
    weights = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
    meta = {"pe_unified": "0", "trained_on": [taught]}
    torch.save({"meta": meta, "state_dict": weights}, tmp_path / "slices.pth")
    given = dict(pretrained=str(tmp_path / "slices.pth"))
    cfg = small_exam_config(repository, data, tmp_path / "w", "semi_weak", **given)
    with pytest.raises(ConfigError, match=r"no trained weights \(encoder\.projection"):
        extract(cfg, tmp_path / "out")
    cfg.model.encoder.projection = None
    stores = [extract(cfg, tmp_path / "out").store for _ in range(2)]
    assert stores[0].key == stores[1].key
    assert load_checkpoint_safely(stores[0].encoder)["meta"]["trained_on"] == [taught]


@pytest.fixture(scope="module")
def trained_on_features(trained, repository, data):
    cfg, checkpoint = trained
    store = extract(copy.deepcopy(cfg), data.parent / "out", checkpoint).store
    work_dir = data.parent / "exams"
    settings = dict(features=str(store.folder), max_iters=10)
    cfg = small_exam_config(repository, data, work_dir, "shared_gru", **settings)
    PERunner.from_cfg(cfg).train()
    return cfg, work_dir / "iter_10.pth", store


@pytest.fixture
def on_features(trained_on_features):
    """A model of exams that was trained on features: its config, its checkpoint, the features."""
    cfg, checkpoint, store = trained_on_features
    stored = store.encoder.read_bytes()
    yield copy.deepcopy(cfg), checkpoint, store
    store.encoder.write_bytes(stored)


def test_a_published_model_answers_on_slices_as_it_did_on_features(on_features, data, tmp_path):
    cfg, checkpoint, _ = on_features
    cfg.work_dir = str(tmp_path / "publish")
    validated = publish(cfg, checkpoint, tmp_path / "model.pth", test=True).validated
    assert "exam/threshold" in validated
    stored = load_checkpoint_safely(tmp_path / "model.pth")
    whole = stored["meta"]["cfg"]
    model = built(whole["model"]).eval()
    model.load_state_dict(stored["state_dict"], strict=True)
    parts = built(cfg.model).eval()
    parts.load_state_dict(load_checkpoint_safely(checkpoint)["state_dict"])
    settings = {**whole["test_dataloader"]["dataset"], "data_root": str(data)}
    for images, features in zip(
        built(settings, DATASETS), built(cfg.test_dataloader.dataset, DATASETS)
    ):
        (one,) = model.test_step({key: [value] for key, value in images.items()})
        (other,) = parts.test_step({key: [value] for key, value in features.items()})
        torch.testing.assert_close(one.pred_exam, other.pred_exam, atol=2e-3, rtol=0)
        torch.testing.assert_close(one.pred_steps, other.pred_steps, atol=2e-3, rtol=0)
    told = json.dumps(stored["meta"], default=str)
    assert str(tmp_path) not in told and str(data.parent) not in told
    assert whole["input_size"] == 32 and "features" not in whole


def test_features_of_another_network_are_refused(on_features, tmp_path):
    cfg, checkpoint, store = on_features
    other = FeatureStore.create(tmp_path, dataclasses.replace(store.source, weights="others"))
    for file in store.folder.glob("*.npy"):
        (other.folder / file.name).write_bytes(file.read_bytes())
    for split in ("val", "test"):
        cfg[f"{split}_dataloader"].dataset.features = str(other.folder)
    with pytest.raises(ConfigError, match="of another network or input"):
        evaluate_checkpoint(cfg, checkpoint)


def knows_test_patients(checkpoint):
    """The checkpoint, as if it had been trained on all 16 exams."""
    stored = torch.load(checkpoint, weights_only=True)
    stored["meta"]["trained_on"][0]["studies"] = [study_digest(f"1.2.{k}") for k in range(16)]
    torch.save(stored, checkpoint)


def test_an_encoder_that_knows_test_patients_is_refused(on_features, encoder, tmp_path):
    cfg, checkpoint, store = on_features
    sets = load_checkpoint_safely(checkpoint)["meta"]["trained_on"]
    assert len(sets) == 1  # of the encoder and of the exams, which are the same
    knows_test_patients(store.encoder)
    told = r"encoder\.pth: was trained on patients of .*{}\.json: PAT0"
    with pytest.raises(CheckpointError, match=told.format("test")):
        evaluate_checkpoint(cfg, checkpoint)
    cfg.work_dir = str(tmp_path / "again")
    with pytest.raises(CheckpointError, match=told.format("val")):
        PERunner.from_cfg(cfg).train()
    knows_test_patients(encoder[1])
    with pytest.raises(CheckpointError, match=r"iter_2\.pth: was trained on patients of .*val"):
        extract(encoder[0], tmp_path / "out", encoder[1])


def test_weights_that_changed_since_are_not_published(on_features, tmp_path):
    cfg, checkpoint, store = on_features
    made = store.encoder
    stored = torch.load(made, weights_only=True)
    stored["state_dict"]["encoder.backbone.conv1.weight"] += 1
    torch.save(stored, made)
    with pytest.raises(CheckpointError, match="were made with other weights"):
        publish(cfg, checkpoint, tmp_path / "model.pth")


def test_exams_of_one_class_teach_nothing(repository, tmp_path):
    def edit(content):
        content["exams"] = content["exams"][::2]

    data = write_tiny_exams(tmp_path / "data")
    change(data, "train", edit)
    cfg = small_exam_config(repository, data, tmp_path / "w", "semi_weak")
    cfg.train_dataloader.sampler.type = "SliceSampler"
    with pytest.raises(ConfigError, match="in its 4 exams, no label of"):
        PERunner.from_cfg(cfg).train()
