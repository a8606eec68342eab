"""What a model was trained on goes with it, from the data set to the report."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from tiny_run import small_config

from pe_unified.checkpoints import load_checkpoint_safely
from pe_unified.cli import test
from pe_unified.disclaimer import SYNTHETIC_LINE, UNKNOWN_LINE, by_set, training_notice
from pe_unified.engine import PERunner
from pe_unified.engine.publish import publish
from pe_unified.errors import CheckpointError
from pe_unified.inference.model import load_model


@pytest.fixture(scope="module")
def sets(tiny_dataset, tmp_path_factory) -> dict[str, Path]:
    """The tiny set, said to be painted, to be real, and half and half."""
    root = tmp_path_factory.mktemp("sets")
    members = {"a": {"synthetic": True}, "b": {"synthetic": False}}
    infos = {
        "painted": {"converter": "fumpe", "source": "made up", "synthetic": True},
        "real": {"converter": "fumpe", "source": "doi", "synthetic": False},
        "merged": {"converter": "merge", "sets": members, "synthetic": "in part"},
    }
    for name, info in infos.items():
        (root / name / "annotations").mkdir(parents=True)
        (root / name / "images").symlink_to(tiny_dataset / "images")
        for path in sorted((tiny_dataset / "annotations").iterdir()):
            coco = json.loads(path.read_text(encoding="utf-8"))
            coco["info"] |= info
            for number, image in enumerate(coco["images"] if name == "merged" else ()):
                image["set"] = "ab"[number % 2]
            text = json.dumps(coco)
            (root / name / "annotations" / path.name).write_text(text, encoding="utf-8")
    return {name: root / name for name in infos}


def train(repository, data, work_dir, **settings):
    cfg = small_config(repository, data, work_dir, task="cls", max_iters=1)
    for key, value in settings.items():
        cfg[key] = value
    PERunner.from_cfg(cfg).train()
    return cfg, work_dir / "iter_1.pth"


def kinds(checkpoint):
    found = load_checkpoint_safely(checkpoint)["meta"]["trained_on"]
    return [(each["set"], each["synthetic"], each["patients"], each["slices"]) for each in found]


def test_from_the_data_set_through_training_and_publishing(repository, sets, tmp_path):
    cfg, trained = train(repository, sets["painted"], tmp_path / "run", step="s1_cls")
    assert kinds(trained) == [("fumpe", True, 4, 24)]
    assert load_model(trained).lineage["training_notice"] == SYNTHETIC_LINE
    cfg.work_dir = str(tmp_path / "publish")
    publish(cfg, trained, tmp_path / "model.pth")
    lineage = load_model(tmp_path / "model.pth").lineage
    assert lineage["training_notice"] == SYNTHETIC_LINE
    assert lineage["trained_on"][0]["step"] == "s1_cls"


def test_weights_taken_over_keep_their_past(repository, sets, tmp_path):
    _, first = train(repository, sets["painted"], tmp_path / "first", step="s1_cls")
    ways = {
        "reuse": {"reuse": {"backbone": ["s1_cls", str(first)]}},
        "load_from": {"load_from": str(first)},
    }
    for name, way in ways.items():
        _, second = train(repository, sets["real"], tmp_path / name, **way)
        assert kinds(second) == [("fumpe", False, 4, 24), ("fumpe", True, 4, 24)], name
    notice = load_model(second).lineage["training_notice"]
    assert notice == "trained in part on synthetic data (50% of its slices)"
    cfg = small_config(repository, sets["real"], tmp_path / "pre", task="cls", max_iters=1)
    cfg.model.backbone.pretrained = str(first)
    PERunner.from_cfg(cfg).train()
    assert len(kinds(tmp_path / "pre/iter_1.pth")) == 2


def test_who_taught_a_model_judges_neither_it_nor_its_heirs(
    repository, sets, tmp_path, called, monkeypatch
):
    _, first = train(repository, sets["painted"], tmp_path / "first")
    other = tmp_path / "other"  # converted anew with another seed
    shutil.copytree(sets["painted"], other, symlinks=True)
    shutil.copy(other / "annotations/train.json", other / "annotations/test.json")
    told = r"was trained on patients of .*test\.json: PAT"
    with pytest.raises(CheckpointError, match=f"the weights that this run starts from: {told}"):
        train(repository, other, tmp_path / "second", reuse=dict(backbone=str(first)))
    monkeypatch.chdir(tmp_path)
    done = called(test.main, "pe-unified test", "pe_cls_r50", str(first), "--data-root", str(other))
    assert done.returncode == 1 and re.search(told, done.stderr)


def test_a_run_that_goes_on_keeps_what_it_knew(repository, sets, tmp_path):
    train(repository, sets["painted"], tmp_path / "run")
    cfg = small_config(repository, sets["real"], tmp_path / "run", task="cls", max_iters=2)
    cfg.resume = True
    PERunner.from_cfg(cfg).train()
    assert {synthetic for _, synthetic, _, _ in kinds(tmp_path / "run/iter_2.pth")} == {True, False}


def test_a_merged_set_tells_its_share(repository, sets, tmp_path):
    _, trained = train(repository, sets["merged"], tmp_path / "run")
    assert kinds(trained) == [("a", True, 4, 12), ("b", False, 4, 12)]
    assert "(50% of its slices)" in load_model(trained).lineage["training_notice"]


def test_an_older_checkpoint_does_not_know(repository, sets, tmp_path):
    _, trained = train(repository, sets["real"], tmp_path / "run")
    assert load_model(trained).lineage["training_notice"] == ""
    stored = torch.load(trained, weights_only=True)
    del stored["meta"]["trained_on"]
    torch.save(stored, tmp_path / "old.pth")
    assert load_model(tmp_path / "old.pth").lineage["training_notice"] == UNKNOWN_LINE
    # Of other programs' weights nothing is claimed either way.
    torch.save({"state_dict": stored["state_dict"]}, tmp_path / "foreign.pth")
    _, second = train(
        repository, sets["real"], tmp_path / "on", load_from=str(tmp_path / "foreign.pth")
    )
    assert kinds(second) == [("fumpe", False, 4, 24)]


def training(name, studies, step, synthetic=False, **more):
    counts = dict(patients=len(studies), slices=10 * len(studies))
    named = dict(set=name, source="doi", licence=None, synthetic=synthetic, step=step)
    return {**named, **counts, "studies": list(studies), **more}


def test_a_set_is_told_once_however_often_it_taught():
    fumpe = [training("fumpe", "abcd", step) for step in ("s9", "s1", "s5")]
    found = by_set([fumpe[0], training("rsna", "xy", "s9"), *fumpe[1:], fumpe[1]])
    assert [(each["set"], each["step"], each["slices"]) for each in found] == [
        ("fumpe", "s9, s1, s5", 40),
        ("rsna", "s9", 20),
    ]
    assert fumpe[0]["step"] == "s9"  # what it was given stays as it is
    # A step on a part of the set; and one that looked at more slices of it.
    (one,) = by_set([training("fumpe", "ab", "s1"), training("fumpe", "abc", "s2", slices=15)])
    assert (one["patients"], one["slices"], one["step"]) == (3, 20, "s2, s1")


def test_other_patients_are_another_set():
    hospitals = [training("own", "ab", None), training("own", "bc", None)]
    assert len(by_set(hospitals)) == 2
    assert len(by_set([*hospitals, training("own", "abc", None)])) == 1
    assert len(by_set([hospitals[0], training("own", "ab", None, synthetic=True)])) == 2
    # Older checkpoints do not tell the studies: the same numbers are the same set.
    older = [{**each} for each in hospitals]
    for each in older:
        del each["studies"]
    assert len(by_set(older)) == 1 and len(by_set([*older, {**older[0], "slices": 7}])) == 2


def test_the_painted_share_counts_every_slice_once():
    real = training("fumpe", "abc", "s1")
    painted = [training("painted", "x", step, synthetic=True) for step in ("s1", "s2", "s3")]
    assert "(25% of its slices)" in training_notice([real, *painted])
