"""Fine-tuning from one published file: what moves, what is refused, what is told."""

import json
import shutil

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from tiny_dataset import write_tiny_dataset
from tiny_exam_run import small_exam_config
from tiny_exams import write_tiny_exams
from tiny_run import small_config

from pe_unified.checkpoints import load_checkpoint_safely, save_atomically
from pe_unified.cli import reporting as reporting_command
from pe_unified.engine import PERunner, load_config
from pe_unified.engine.config import ConfigError
from pe_unified.engine.evaluate import Evaluation
from pe_unified.engine.publish import publish
from pe_unified.errors import CheckpointError
from pe_unified.evaluation.intervals import paired_difference
from pe_unified.evaluation.slices import SliceTable
from pe_unified.inference.model import load_model
from pe_unified.recipes.before_after import comparison_markdown, write_comparison
from pe_unified.recipes.finetune import FinetuneOptions, finetune, finetune_config
from pe_unified.registry import DATASETS, MODELS


@pytest.fixture(scope="module")
def model(repository, tiny_dataset, tmp_path_factory):
    """A published classifier, whose config is nowhere else."""
    root = tmp_path_factory.mktemp("published")
    cfg = small_config(repository, tiny_dataset, root / "run", task="cls", max_iters=3)
    PERunner.from_cfg(cfg).train()
    cfg.work_dir = str(root / "publish")
    cfg.test_dataloader.dataset.every = 2  # a config for quick tests; the comparison is whole
    publish(cfg, root / "run/iter_3.pth", root / "model.pth")
    shutil.rmtree(root / "run")
    return root / "model.pth"


@pytest.fixture(scope="module")
def tuned(model, tiny_dataset, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("tuned")
    options = FinetuneOptions(freeze="backbone", iterations=2, lr=0.01)
    return work_dir, finetune(model, tiny_dataset, work_dir, options)


def test_the_head_learns_and_the_backbone_stands_still(model, tuned):
    before = load_checkpoint_safely(model)["state_dict"]
    after = load_checkpoint_safely(tuned[0] / "finetuned.pth")["state_dict"]
    assert before.keys() == after.keys()
    still = [name for name in before if name.startswith("backbone.")]
    assert still and all(torch.equal(before[name], after[name]) for name in still)
    moved = [name for name in before if name.startswith("cls_head.")]
    assert not all(torch.equal(before[name], after[name]) for name in moved)


def test_the_result_is_a_published_model_with_its_past(model, tuned):
    work_dir, found = tuned
    ready = load_model(work_dir / "finetuned.pth")
    assert ready.thresholds.slice is not None and ready.lineage["card"]["name"] == "finetuned"
    assert {parent["from"] for parent in ready.lineage["parents"]} == {"model.pth"}
    card = json.loads((work_dir / "finetuned.card.json").read_text())
    assert card["model"]["frozen"] == ["backbone"] and card["tested"]["patients"] == 3
    assert str(work_dir) not in json.dumps(card) and str(model.parent) not in json.dumps(card)
    assert found["learned_before"] == 4  # its own training patients may teach it again


def test_both_are_tested_on_the_same_patients(tuned):
    work_dir, found = tuned
    tables = [SliceTable.load(work_dir / arm / "cls.npz") for arm in ("before", "after")]
    assert [len(table.patient) for table in tables] == [18, 18]
    told = [
        json.loads((work_dir / arm / "metrics.json").read_text()) for arm in ("before", "after")
    ]
    cuts = [each["thresholds"]["cls/threshold"] for each in told]
    arms = [table.statistic(cut) for table, cut in zip(tables, cuts)]
    wanted = paired_difference(*arms, 3)["auc"]
    row = found["metrics"]["cls/auc"]
    assert row["difference"]["value"] == pytest.approx(wanted.value)
    assert row["before"][0] == pytest.approx(told[0]["metrics"]["cls/auc"])
    assert row["after"][0] == pytest.approx(told[1]["metrics"]["cls/auc"])
    assert json.loads((work_dir / "comparison.json").read_text()) == found


def test_a_run_goes_on(model, tiny_dataset, tuned, tmp_path):
    shutil.copytree(tuned[0], tmp_path / "run")
    (path,) = (tmp_path / "run").glob("iter_2.pth")
    stored = load_checkpoint_safely(path)
    stored["state_dict"]["cls_head.fc.bias"] += 100
    save_atomically(stored, path)
    options = FinetuneOptions(freeze="backbone", iterations=3, lr=0.01, resume=True)
    assert finetune(model, tiny_dataset, tmp_path / "run", options)["iterations"] == 3
    after = load_checkpoint_safely(tmp_path / "run/finetuned.pth")["state_dict"]
    assert (after["cls_head.fc.bias"] > 5).all()


def test_the_schedule_follows_the_data(model, tiny_dataset, tmp_path):
    stored = load_checkpoint_safely(model)
    cfg = finetune_config(model, stored, tiny_dataset, tmp_path / "a", FinetuneOptions())
    assert cfg.max_iters == cfg.train_cfg.max_iters == 3  # no longer than the first training
    assert cfg.lr == cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-4)
    stored["meta"]["cfg"]["max_iters"] = 10_000
    cfg = finetune_config(model, stored, tiny_dataset, tmp_path / "b", FinetuneOptions())
    assert cfg.max_iters == 100  # four passes over 24 slices in batches of 4 are fewer
    cfg = finetune_config(
        model, stored, tiny_dataset, tmp_path / "c", FinetuneOptions(freeze="1", iterations=50)
    )
    assert cfg.model.backbone.frozen_stages == 1 and cfg.train_cfg.val_interval == 25
    assert cfg.param_scheduler[-1].end == 50


def test_a_model_that_knows_test_patients_is_refused(model, tmp_path):
    data = write_tiny_dataset(tmp_path / "set", splits={"test": 3, "val": 2, "train": 4})
    with pytest.raises(CheckpointError, match=r"was trained on patients of .*val\.json: PAT003\."):
        finetune(model, data, tmp_path / "run", FinetuneOptions())
    assert not list((tmp_path / "run").glob("*.pth"))


def test_what_cannot_be_frozen(model, tiny_dataset, tmp_path):
    stored = load_checkpoint_safely(model)
    with pytest.raises(ConfigError, match=r"no such part; it has .*backbone"):
        finetune_config(model, stored, tiny_dataset, tmp_path, FinetuneOptions(freeze="neck"))


@pytest.mark.parametrize(
    ("freeze", "message"), [("2", "has no stages"), ("backbone", "has no weights to freeze")]
)
def test_a_whole_net_has_neither_stages_nor_a_backbone(tiny_dataset, tmp_path, freeze, message):
    overrides = {"input_size": 32, "num_workers": 0, "model.seg_head.decoder.base_channels": 4}
    cfg = load_config("unets/u2netp", overrides, str(tiny_dataset))
    with DefaultScope.overwrite_default_scope("pe_unified"):
        weights = MODELS.build(cfg.model).state_dict()
    stored = {"meta": {"pe_unified": "0", "cfg": cfg.to_dict()}, "state_dict": weights}
    save_atomically(stored, tmp_path / "model.pth")
    with pytest.raises(ConfigError, match=f"--freeze {freeze}: .*{message}"):
        options = FinetuneOptions(freeze=freeze)
        finetune(tmp_path / "model.pth", tiny_dataset, tmp_path / "run", options)


def test_stages_frozen_before_learn_again(model, tiny_dataset, tmp_path):
    stored = load_checkpoint_safely(model)
    own = stored["meta"]["cfg"]
    own.pop("frozen_stages")
    own["model"]["backbone"]["frozen_stages"] = 2
    cfg = finetune_config(model, stored, tiny_dataset, tmp_path, FinetuneOptions())
    assert cfg.model.backbone.frozen_stages == -1


def test_all_labels_teach_in_batches_as_large_as_before(repository, tmp_path):
    data = write_tiny_exams(tmp_path / "set")
    trained = {"masked_label_portion": 0.75, "train_dataloader.dataset.every": 2, "accumulate": 3}
    own = small_exam_config(repository, data, tmp_path, "semi_weak", **trained).to_dict()
    stored = {"meta": {"cfg": own}, "state_dict": {}}
    cfg = finetune_config(tmp_path / "m.pth", stored, data, tmp_path, FinetuneOptions())
    exams = DATASETS.build(cfg.train_dataloader.dataset)
    labels = [exams.get_data_info(k)["step_labels"] for k in range(len(exams))]
    assert len(exams) == 8 and not np.isnan(np.concatenate(labels)).any()
    assert cfg.optim_wrapper.accumulative_counts == 3


@pytest.mark.parametrize("place", ["losses", "sampler", "val_evaluator"])
def test_a_strangers_file_builds_no_command(model, tiny_dataset, tmp_path, place):
    stored = load_checkpoint_safely(model)
    evil = {"type": "os.system", "command": f"touch {tmp_path}/pwned"}
    cfg = stored["meta"]["cfg"]
    if place == "losses":
        cfg["model"]["cls_head"]["losses"] = [evil]
    elif place == "sampler":
        cfg["train_dataloader"]["sampler"] = evil
    else:
        cfg["val_evaluator"] = [evil]
    with pytest.raises(CheckpointError, match=r"refused, because its config builds 'os\.system'"):
        finetune_config(model, stored, tiny_dataset, tmp_path, FinetuneOptions())
    assert not (tmp_path / "pwned").exists()


def arm(scores, thresholds=0.5):
    patients = [f"p{k % 12}" for k in range(240)]
    labels = np.arange(240) % 5 < 2
    table = SliceTable.build(patients, labels, scores)
    metrics = {
        f"cls/{name}": float(value[0])
        for name, value in table.statistic(thresholds)(np.ones((1, 12))).items()
    }
    return Evaluation(metrics, {"cls/threshold": thresholds}, {"cls": table})


def test_what_got_worse_is_said_plainly(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 5 < 2
    good = np.clip(labels * 0.4 + rng.normal(0.3, 0.1, 240), 0, 1)
    bad = np.clip(labels * 0.1 + rng.normal(0.45, 0.2, 240), 0, 1)
    said = dict(model="m", iterations=1, batch_size=1, frozen=None)
    found = write_comparison(tmp_path, {"before": arm(good), "after": arm(bad)}, said)
    assert found["metrics"]["cls/auc"]["worse"] == "surely"
    assert found["metrics"]["cls/auc"]["difference"]["high"] < 0
    assert any(each.startswith("Slice AUC got worse: -") for each in found["warnings"])
    assert "**Warning. Slice AUC got worse" in comparison_markdown(found)
    better = write_comparison(tmp_path, {"before": arm(bad), "after": arm(good)}, said)
    assert better["warnings"] == []
    hardly = np.where(np.arange(240) == 7, 0.9, good)
    maybe = write_comparison(tmp_path, {"before": arm(good), "after": arm(hardly)}, said)
    assert maybe["metrics"]["cls/auc"]["worse"] in ("perhaps", "")
    assert not [each for each in maybe["metrics"].values() if each["worse"] == "surely"]


def test_a_run_and_a_model_fill_in_the_checklists(tuned, called, tmp_path):
    for source, said in (
        (tuned[0], "not tested: patients of a test split: no test of this file is known"),
        (tuned[0] / "finetuned.pth", "| 37 | Performance with its uncertainty | Test split, 3 "),
    ):
        done = called(reporting_command.main, "reporting", source, "--out", tmp_path / "page.md")
        assert done.returncode == 0, done.stderr
        page = (tmp_path / "page.md").read_text()
        assert said in page and "train: 4 patients (4 with embolism), 4 studies, 24 slices" in page
    shutil.copytree(tuned[0], tmp_path / "run")
    (tmp_path / "run/test").mkdir()  # where pe-unified test writes
    for place, checkpoint, code in (
        ("test/metrics.json", "iter_2.pth", 0),
        ("metrics.json", "elsewhere/iter_1.pth", 1),
    ):
        metrics = {"cls/auc": 0.25, "cls/auc_ci": [0.2, 0.3]}
        found = {"checkpoint": checkpoint, "metrics": metrics}
        (tmp_path / "run" / place).write_text(json.dumps(found))
        words = ("reporting", tmp_path / "run", "--out", tmp_path / "page.md")
        done = called(reporting_command.main, *words)
        assert done.returncode == code, done.stderr
    assert "Slice AUC 0.250 [0.20, 0.30]" in (tmp_path / "page.md").read_text()
    assert "is from iter_1.pth, but the newest checkpoint is iter_2.pth" in done.stderr
    done = called(reporting_command.main, "reporting", tmp_path)
    assert done.returncode == 1 and "contains no checkpoint" in done.stderr
