"""Making one model of several: who may be in it, and what validation fixes."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from studies import write_volume_checkpoint
from tiny_run import small_config

from pe_unified.checkpoints import load_checkpoint_safely
from pe_unified.datasets.sources import study_digest
from pe_unified.engine import ConfigError, PERunner
from pe_unified.engine.ensemble import (
    EnsembleList,
    MemberEntry,
    make_ensemble,
    marks_on,
    read_list,
)
from pe_unified.engine.publish import publish
from pe_unified.engine.study_test import evaluate_studies
from pe_unified.errors import CheckpointError
from pe_unified.inference.exam_readings import ExamReading
from pe_unified.inference.model import load_model

NEEDED = {"cls/threshold", "cls/gate", "seg/threshold", "det/threshold"}


def split(data, name):
    return dict(type="PESliceDataset", data_root=str(data), ann_file=f"annotations/{name}.json")


@pytest.fixture(scope="module")
def trained(repository, tiny_dataset, tmp_path_factory):
    """Two models of the training split of the tiny set, and a folder to publish into."""
    root = tmp_path_factory.mktemp("trained")
    for name, task in (("one", "unified"), ("two", "cls_seg")):
        cfg = small_config(
            repository, tiny_dataset, root / name, task=task, max_iters=1, seed=len(name)
        )
        PERunner.from_cfg(cfg).train()
        (root / name / "iter_1.pth").rename(root / f"{name}.pth")
    return root


def entries(trained, *names):
    return [MemberEntry(str(trained / f"{name}.pth")) for name in names]


@pytest.fixture(scope="module")
def made(tiny_dataset, trained):
    """An ensemble of the first, and one of both: by name, the file and what validation fixed."""
    found = {}
    for name, members in (("alone", ["one"]), ("pair", ["one", "two"])):
        wanted, out = EnsembleList(entries(trained, *members)), trained / f"{name}.pth"
        found[name] = out, make_ensemble(wanted, split(tiny_dataset, "val"), out)
    return found


def test_an_ensemble_of_one_is_validated_as_published(
    repository, tiny_dataset, trained, made, tmp_path
):
    cfg = small_config(repository, tiny_dataset, tmp_path / "run")
    cfg.work_dir = str(tmp_path / "publish")
    published = publish(cfg, trained / "one.pth", tmp_path / "model.pth").validated
    _, validated = made["alone"]
    assert validated.keys() == published.keys() and validated.keys() >= NEEDED
    for key, value in published.items():
        # The norms of a study's network are taken into its convolutions.
        assert validated[key] == pytest.approx(value, abs=5e-3, nan_ok=True), key


def test_the_file_is_whole_by_itself_and_tells_where_it_comes_from(tiny_dataset, trained, tmp_path):
    members = [replace(each, weight=2.0) for each in entries(trained, "one", "two")]
    moved = tmp_path / "moved"
    moved.mkdir()
    for each in members:
        shutil.copy(each.checkpoint, moved)
    members = [replace(each, checkpoint=str(moved / f"{each.called}.pth")) for each in members]
    out = tmp_path / "e.pth"
    validated = make_ensemble(EnsembleList(members), split(tiny_dataset, "val"), out)
    shutil.rmtree(moved)
    model = load_model(out, device="cpu", precision="fp32")
    assert [each.name for each in model.members] == ["one", "two"]
    assert [each.weight for each in model.members] == [2.0, 2.0]
    assert model.tasks == ("cls", "seg", "det") and validated.keys() >= NEEDED
    assert model.thresholds.slice == validated["cls/threshold"]
    assert model.thresholds.pixel == validated["seg/threshold"]
    stored = load_checkpoint_safely(out)
    assert str(tmp_path) not in str(stored["meta"]) and str(tiny_dataset) not in str(
        [each["model"]["meta"] for each in stored["members"]]
    )
    assert all(set(each["model"]) == {"meta", "state_dict"} for each in stored["members"])
    assert len(stored["meta"]["trained_on"]) == 1  # both by the same set
    assert "studies" not in model.lineage["trained_on"][0]


def test_thresholds_are_of_what_they_say_together(tiny_dataset, trained, made, tmp_path):
    """Fixed on validation, and not one of the members'."""
    both = EnsembleList(entries(trained, "one", "two"))
    val = split(tiny_dataset, "val")
    (_, one), (_, found) = made["alone"], made["pair"]
    votes = make_ensemble(replace(both, rule="vote"), val, tmp_path / "vote.pth")
    two = make_ensemble(EnsembleList(entries(trained, "two")), val, tmp_path / "two.pth")
    assert found["cls/threshold"] not in [each["cls/threshold"] for each in (one, two)]
    assert votes["cls/threshold"] != found["cls/threshold"]


def test_members_must_not_know_who_judges_them(tiny_dataset, trained, made, tmp_path):
    """A validation patient of the ensemble among the training patients of a member."""
    other = tmp_path / "other"
    (other / "annotations").mkdir(parents=True)
    (other / "images").symlink_to(tiny_dataset / "images")
    coco = {
        name: json.loads((tiny_dataset / f"annotations/{name}.json").read_text())
        for name in ("train", "val", "test")
    }
    coco["val"]["images"] += [
        image for image in coco["train"]["images"] if image["patient_id"] == "PAT002"
    ]
    for name, content in coco.items():
        (other / f"annotations/{name}.json").write_text(json.dumps(content))
    wanted = EnsembleList(entries(trained, "one", "two"))
    with pytest.raises(CheckpointError, match=r"^one \(one\.pth\): was trained .*: PAT002\."):
        make_ensemble(wanted, split(other, "val"), tmp_path / "e.pth")
    assert not (tmp_path / "e.pth").exists()
    # The same of those who test it.
    with pytest.raises(CheckpointError, match=r"patients of .*val\.json: PAT002\."):
        evaluate_studies(made["pair"][0], split(other, "val"))
    # An older checkpoint does not tell, which is said and no fault.
    stored = torch.load(trained / "two.pth", weights_only=False)
    for each in stored["meta"]["trained_on"]:
        del each["studies"]
    torch.save(stored, tmp_path / "old.pth")
    old = EnsembleList([MemberEntry(str(tmp_path / "old.pth"))])
    make_ensemble(old, split(other, "val"), tmp_path / "old_e.pth")


def test_a_model_of_volumes_must_not_know_them_either(tiny_dataset, trained, tmp_path):
    """Thresholds and the fusion follow its marks, as they follow the answers of members."""
    learned = [study_digest("1.2.004")]
    volumes = write_volume_checkpoint(tmp_path / "volumes.pth", learned)
    wanted = EnsembleList(entries(trained, "one"), volumes=str(volumes))
    with pytest.raises(
        CheckpointError,
        match=r"the model of volumes \(volumes\.pth\): was trained .*val\.json: PAT004\.",
    ):
        make_ensemble(wanted, split(tiny_dataset, "val"), tmp_path / "e.pth")
    assert not (tmp_path / "e.pth").exists()
    # Nor those of a test that is given the model by itself.
    with pytest.raises(CheckpointError, match=r"volumes\.pth: was trained .*val\.json: PAT004\."):
        marks_on(split(tiny_dataset, "val"), volumes=str(volumes))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (dict(members=[]), "needs members"),
        (dict(rule="best"), "one of mean, vote, not 'best'"),
        (dict(members=["one", "one"]), "two members are called one"),
        (dict(weight=0.0), "member one: weight 0.0 is not above 0"),
        (dict(members=["none"]), r"none\.pth: no such checkpoint"),
        (dict(members=["broken"]), r"broken\.pth: not a complete checkpoint"),
    ],
)
def test_what_is_no_ensemble_is_told(tiny_dataset, trained, tmp_path, change, fault):
    broken = trained / "broken.pth"
    broken.write_bytes((trained / "one.pth").read_bytes()[:-5000])
    change = dict(change)
    members = entries(trained, *change.pop("members", ["one"]))
    if "weight" in change:
        members = [replace(members[0], weight=change.pop("weight"))]
    with pytest.raises((ConfigError, CheckpointError), match=fault):
        make_ensemble(
            EnsembleList(members, **change), split(tiny_dataset, "val"), tmp_path / "e.pth"
        )


def test_a_list_of_members_is_read_beside_its_files(tmp_path):
    (tmp_path / "list.json").write_text(
        '{"members": [{"checkpoint": "a.pth", "weight": 2}, {"checkpoint": "/b.pth", "name": "b"}],'
        ' "rule": "vote"}'
    )
    (tmp_path / "list.py").write_text("members = [dict(checkpoint='a.pth')]\nfuse = True\n")
    found = read_list(tmp_path / "list.json")
    assert [each.checkpoint for each in found.members] == [str(tmp_path / "a.pth"), "/b.pth"]
    assert [(each.called, each.weight) for each in found.members] == [("a", 2), ("b", 1.0)]
    assert found.rule == "vote" and read_list(tmp_path / "list.py").fuse
    (tmp_path / "list.py").write_text("members = [dict(file='a.pth')]\n")
    with pytest.raises(ConfigError, match=r"list\.py: .*'file'"):
        read_list(tmp_path / "list.py")


def test_a_fusion_is_fitted_stored_and_used(tiny_dataset, trained, tmp_path, monkeypatch):
    """With enough lesions of which the truth is known; readings stand in for them."""
    rng = np.random.default_rng(0)
    hits = rng.random((30, 1)) < 0.5
    answers = np.where(hits, 1.0, -1.0) + rng.normal(size=(30, 5))

    def read(predictor, exams, title, marks):
        rest = dict(step_mm=1.0, probability=[0.5] * 9, possible=np.ones(30, dtype=bool))
        return [
            ExamReading(
                True, f"p{k}", f"g{k}", score=np.full(30, 0.5), answers=answers, hits=hits, **rest
            )
            for k in range(4)
        ]

    monkeypatch.setattr("pe_unified.engine.study_choices.read_exams", read)
    wanted = EnsembleList(entries(trained, "one"), fuse=True)
    make_ensemble(wanted, split(tiny_dataset, "val"), tmp_path / "e.pth")
    fusion = load_model(tmp_path / "e.pth").fusion
    assert (fusion.lesions, fusion.true) == (120, 4 * hits.sum())
    assert fusion.score(answers)[hits[:, 0]].mean() > fusion.score(answers)[~hits[:, 0]].mean()


def test_it_is_tested_by_slices_and_by_lesions(tiny_dataset, made):
    path, _ = made["pair"]
    found = evaluate_studies(path, split(tiny_dataset, "test"), resamples=9)
    chosen = load_model(path).thresholds
    assert found.thresholds["seg/threshold"] == chosen.pixel
    assert {"cls", "seg", "det", "findings", "findings_plain"} == set(found.tables)
    table = found.tables["findings"]
    assert table.scans.tolist() == [1, 1, 1] and len(table.best) > 0
    assert (
        found.metrics["findings/mean_sensitivity"]
        == found.metrics["findings_plain/mean_sensitivity"]
    )
    assert len(found.metrics["findings/mean_sensitivity_ci"]) == 2


def test_the_command(tiny_dataset, trained, tmp_path, command):
    two = trained / "two.pth"
    out = ["--data-root", tiny_dataset, "--out"]
    words = [*out, tmp_path / "e.pth", "--rule", "vote"]
    done = command("ensemble", f"first={two}", two, *words, "--weights", 2, 1)
    assert done.returncode == 0, done.stderr
    assert "cls/threshold: " in done.stdout and "e.pth: " in done.stdout
    model = load_model(tmp_path / "e.pth")
    assert [(each.name, each.weight) for each in model.members] == [("first", 2.0), ("two", 1.0)]
    assert model.rule == "vote"
    again = command("ensemble", two, *words)
    assert again.returncode == 1 and "e.pth exists" in again.stderr
    words = ["test", "pe_cls_seg_r50", tmp_path / "e.pth", "--data-root", tiny_dataset]
    tested = command(*words, "--work-dir", tmp_path / "test")
    assert tested.returncode == 0, tested.stderr
    metrics = json.loads((tmp_path / "test/metrics.json").read_text())["metrics"]
    assert {"cls/auc", "seg/dice", "findings/mean_sensitivity"} <= set(metrics)
    words = ["test", "pe_cls_r50", two, "--data-root", tiny_dataset, "--marks", "m.csv"]
    single = command(*words, "--work-dir", tmp_path / "single")
    assert single.returncode == 1 and "count in ensembles" in single.stderr
    few = command("ensemble", two, two, *out, tmp_path / "f.pth", "--weights", 2)
    assert few.stderr == "error: 1 weights for 2 members\n"
