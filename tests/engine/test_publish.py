import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny_dataset import write_tiny_dataset
from tiny_exams import write_tiny_exams
from tiny_run import small_config, small_settings

from pe_unified.cards.card import BY_CONTRAST, BY_SIZE
from pe_unified.cards.markdown import card_markdown
from pe_unified.checkpoints import config_of, load_checkpoint_safely
from pe_unified.engine import PERunner, load_config
from pe_unified.engine.publish import _for_others, _without_places, publish
from pe_unified.errors import CheckpointError
from pe_unified.inference.converted import exams_of_split
from pe_unified.inference.exam_readings import ExamReading
from pe_unified.inference.model import load_model
from pe_unified.json_files import as_json
from pe_unified.registry import MODELS


def test_a_published_model_has_every_threshold_and_nothing_to_spare(
    repository, tiny_dataset, tmp_path
):
    cfg = small_config(repository, tiny_dataset, tmp_path / "run", max_iters=2)
    PERunner.from_cfg(cfg).train()
    trained = tmp_path / "run/iter_2.pth"
    cfg.work_dir = str(tmp_path / "publish")
    cfg.test_dataloader.dataset.every = 2  # as tests between steps have it; the card's is whole
    published = publish(cfg, trained, tmp_path / "model.pth", test=True)
    validated = published.validated
    stored = load_checkpoint_safely(tmp_path / "model.pth")
    assert set(stored) == {"meta", "state_dict"}
    assert as_json(stored["meta"]["validated"]) == as_json(validated)
    assert stored["meta"]["iter"] == 2
    assert str(tmp_path) not in str(stored["meta"]) and str(tiny_dataset) not in str(stored["meta"])
    assert (tmp_path / "model.pth").stat().st_size < trained.stat().st_size / 2
    thresholds = load_model(tmp_path / "model.pth").thresholds
    assert None not in (thresholds.slice, thresholds.pixel, thresholds.box, thresholds.gate)
    assert thresholds.exam is None  # every patient of the set is positive
    assert thresholds.gate <= thresholds.slice
    assert 0 < thresholds.coarse_gate <= thresholds.slice  # slices lie 1 mm apart
    assert thresholds.coarse_origin.startswith("2 thin-slice studies of the validation split: ")
    card, network = stored["meta"]["card"], MODELS.build(cfg.model)
    assert card["model"]["parameters"] == sum(each.numel() for each in network.parameters())
    _require_card(card, published, tmp_path)


def test_patients_that_it_learned_from_fix_and_test_nothing(repository, tiny_dataset, tmp_path):
    cfg = small_config(repository, tiny_dataset, tmp_path / "run", "cls", max_iters=1)
    PERunner.from_cfg(cfg).train()
    out, trained = tmp_path / "model.pth", tmp_path / "run/iter_1.pth"
    data = write_tiny_dataset(tmp_path / "set", splits={"test": 3, "val": 2, "train": 4})
    other = small_config(repository, data, tmp_path / "publish", "cls")
    with pytest.raises(CheckpointError, match=r"iter_1\.pth: was trained .*val\.json: PAT003\."):
        publish(other, trained, out)
    other.val_dataloader.dataset.ann_file = "annotations/train.json"
    with pytest.raises(CheckpointError, match=r"test\.json: PAT000, PAT001, PAT002\."):
        publish(other, trained, out, test=True)
    assert not out.exists()


def test_it_says_how_it_was_trained_whatever_config_publishes(repository, tiny_dataset, tmp_path):
    cfg = small_config(repository, tiny_dataset, tmp_path / "run", "cls", max_iters=2, lr=0.007)
    PERunner.from_cfg(cfg).train()
    other = small_config(repository, tiny_dataset, tmp_path / "publish", "cls", max_iters=9)
    publish(other, tmp_path / "run/iter_2.pth", tmp_path / "model.pth")
    stored = load_checkpoint_safely(tmp_path / "model.pth")
    kept = config_of(stored)
    assert (kept["lr"], kept["max_iters"], kept["train_cfg"]["max_iters"]) == (0.007, 2, 2)
    assert kept["model"]["cls_head"]["losses"] == cfg.model.cls_head.losses
    assert stored["meta"]["card"]["model"]["settings"]["lr"] == 0.007


def _require_card(card, published, folder):
    """In the file and beside it; the test at the thresholds of validation, and by subgroups."""
    assert json.loads((folder / "model.card.json").read_text()) == card
    assert (folder / "model.card.md").read_text() == card_markdown(card)
    tested, metrics = card["tested"], published.tested.metrics
    for task in ("cls", "seg", "det"):
        key = f"{task}/threshold"
        assert published.tested.thresholds[key] == pytest.approx(published.validated[key])
    assert tested["patients"] == 3 and tested["metrics"] == as_json(metrics)
    assert card["data"]["splits"]["train"]["slices"] == 24
    by = {each["by"]: each for each in tested["subgroups"]}
    # All slices of the tiny set are 1 mm apart, and no lungs are found to measure contrast between.
    spacing, size = by["distance between slices"], by[BY_SIZE]
    assert spacing["group"] == "up to 1 mm" and spacing["patients"] == 3
    for key in ("cls/auc", "seg/dice", "det/recall"):
        assert spacing["metrics"][key]["value"] == pytest.approx(metrics[key], nan_ok=True)
    # Discs of 4 pixels of 1.5 mm: all emboli are of one class, which is then the whole test.
    assert size["group"] == "over 8 mm" and size["patients"] == 3
    for key in ("cls/auc", "cls/sensitivity", "seg/dice_positive"):
        assert size["metrics"][key]["value"] == pytest.approx(metrics[key], nan_ok=True)
    assert BY_CONTRAST not in by
    assert any("opacification" in each for each in card["not_tested"])


def test_a_published_model_tells_no_folder_of_the_machine(repository, tiny_dataset, tmp_path):
    """Neither of what it started from, nor of its data, nor of where it logged."""
    private = tmp_path / "alice"
    shutil.copytree(tiny_dataset / "annotations", private / "annotations")
    cfg = small_config(repository, tiny_dataset, private / "first", task="cls", max_iters=1)
    PERunner.from_cfg(cfg).train()
    first = str(private / "first/iter_1.pth")
    cfg = small_config(
        repository,
        tiny_dataset,
        private / "run",
        task="cls",
        max_iters=1,
        pretrained=first,
        **{
            f"{split}_dataloader.dataset.ann_file": str(private / f"annotations/{split}.json")
            for split in ("train", "val", "test")
        },
        vis_backends=[dict(type="LocalVisBackend", save_dir=str(private / "logs"))],
    )
    cfg.reuse = {"backbone": first, "cls_head": ["s1_cls", first]}
    PERunner.from_cfg(cfg).train()
    cfg.work_dir = str(private / "publish")
    publish(cfg, private / "run/iter_1.pth", tmp_path / "model.pth")
    meta = load_checkpoint_safely(tmp_path / "model.pth")["meta"]
    assert "alice" not in str(meta) and str(tmp_path) not in str(meta)
    assert [parent["from"] for parent in meta["parents"]] == ["iter_1.pth", "s1_cls"]
    assert (
        meta["cfg"]["pretrained"] == meta["cfg"]["model"]["backbone"]["pretrained"] == "iter_1.pth"
    )
    assert meta["cfg"]["test_dataloader"]["dataset"]["ann_file"] == "test.json"
    assert load_model(tmp_path / "model.pth").lineage["parents"] == meta["parents"]


def test_training_goes_on_from_the_config_in_a_published_model(
    repository, tiny_dataset, tmp_path, command
):
    """It has nothing of the machine, the terminal and the accounts of who published it."""
    cfg = small_config(repository, tiny_dataset, tmp_path / "run", task="cls", max_iters=1)
    PERunner.from_cfg(cfg).train()
    cfg.work_dir = str(tmp_path / "publish")
    cfg.merge_from_dict(
        dict(console_level=30, resume=True, trust_checkpoint=True, launcher="pytorch")
    )
    cfg.vis_backends = cfg.visualizer.vis_backends = [
        dict(type="WandbVisBackend", init_kwargs=dict(entity="alice")),
        dict(type="TensorboardVisBackend", save_dir="/home/alice"),
    ]
    meta = _for_others(cfg.to_dict())
    assert "alice" not in str(meta) and "Wandb" not in str(meta)
    stored = load_checkpoint_safely(tmp_path / "run/iter_1.pth")
    stored["meta"]["cfg"] = meta
    torch.save(stored, tmp_path / "model.pth")
    own = tmp_path / "own.py"
    Config(load_checkpoint_safely(tmp_path / "model.pth")["meta"]["cfg"]).dump(own)
    words = ["--data-root", tiny_dataset, "--work-dir", tmp_path / "again"]
    words += ["--reuse", f"backbone={tmp_path / 'model.pth'}"]
    ended = command("train", own, *words)
    assert ended.returncode == 0, ended.stderr
    again = load_checkpoint_safely(tmp_path / "again/iter_1.pth")["meta"]
    (parent,) = again["parents"]
    assert parent["module"] == "backbone" and parent["tensors"] == parent["total"]
    assert "console_level" not in again["cfg"] and not again["cfg"]["trust_checkpoint"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("torchvision://resnet50", "torchvision://resnet50"),
        ("https://somewhere.org/swin_t.pth", "https://somewhere.org/swin_t.pth"),
        ("weights/of_alice/r50.pth", "r50.pth"),
        ("~/r50.pth", "r50.pth"),
        (r"C:\Users\alice\r50.pth", "r50.pth"),
        (None, None),
    ],
)
def test_weights_keep_their_name_only(given, kept):
    assert _without_places({"model": {"pretrained": given}}) == {"model": {"pretrained": kept}}


def test_masks_of_arteries_stay_with_the_data():
    """So that training goes on from a published model where there are none."""
    settings = {"structures": "masks", "train_dataloader": {"dataset": {"structures": "/x/masks"}}}
    kept = _without_places(settings)
    assert kept == {"structures": None, "train_dataloader": {"dataset": {"structures": None}}}


def test_exams_and_lesions_get_their_thresholds_together(
    repository, tiny_dataset, tmp_path, monkeypatch
):
    """Every patient of the tiny set is positive; here every other one is said to be negative."""

    def two_classes(dataset):
        exams = exams_of_split(dataset)
        return [replace(exam, positive=number % 2 == 0) for number, exam in enumerate(exams)]

    def scored(predictor, exams, title, marks):
        assert predictor.model.thresholds.pixel is not None
        rest = dict(possible=np.array([True]), answers=np.zeros((1, 5)), hits=None)
        return [
            ExamReading(True, "a", "a", 3.0, [0.9] * 9, np.array([0.0]), **rest),
            ExamReading(False, "b", "b", 3.0, [0.2] * 9, np.array([0.1]), **rest),
        ]

    monkeypatch.setattr("pe_unified.engine.study_choices.exams_of_split", two_classes)
    monkeypatch.setattr("pe_unified.engine.study_choices.read_exams", scored)
    cfg = small_config(repository, tiny_dataset, tmp_path / "run", max_iters=1)
    PERunner.from_cfg(cfg).train()
    validated = publish(cfg, tmp_path / "run/iter_1.pth", tmp_path / "model.pth").validated
    assert validated["exam/stretch_threshold"] == pytest.approx(0.55)
    thresholds = load_model(tmp_path / "model.pth").thresholds
    assert thresholds.exam == validated["exam/stretch_threshold"]
    assert thresholds.lesion == validated["exam/lesion_threshold"] > 0.1
    left = sorted(path.name for path in tmp_path.glob("*model*"))
    assert left == ["model.card.json", "model.card.md", "model.pth"]


def test_a_classifier_of_lung_is_published_without_thresholds_of_embolism(repository, tmp_path):
    data = write_tiny_exams(tmp_path / "data")
    settings = {**small_settings("cls"), "input_size": 32}
    path = repository / "configs/exam/lung_slices.py"
    cfg = load_config(path, {"max_iters": 2}, str(data), settings=[settings])
    cfg.work_dir = str(tmp_path / "run")
    PERunner.from_cfg(cfg).train()
    cfg.work_dir = str(tmp_path / "publish")
    validated = publish(cfg, tmp_path / "run/iter_2.pth", tmp_path / "model.pth").validated
    assert "lung/threshold" in validated
    assert not [key for key in validated if key.startswith(("cls/", "exam/"))]
    with pytest.raises(CheckpointError, match="shows lung, not whether it shows embolism"):
        load_model(tmp_path / "model.pth")
