import json

import pytest
from tiny_dataset import write_tiny_dataset
from tiny_exam_run import small_exam_config
from tiny_exams import change, write_tiny_exams
from tiny_run import small_config

from pe_unified.datasets import DatasetError
from pe_unified.engine import ConfigError, PERunner
from pe_unified.engine.launchers import join_processes
from pe_unified.engine.part_errors import building


def forget(root, kind, left=0):
    """Positive training slices know nothing of a kind any more, except the first ``left``.

    Negative ones know it still: where there is no embolism, there is no mask.
    """
    path = root / "annotations/train.json"
    coco = json.loads(path.read_text())
    for image in [each for each in coco["images"] if each["pe_present"]][left:]:
        image["labels_known"] = [each for each in image["labels_known"] if each != kind]
    path.write_text(json.dumps(coco))


@pytest.mark.parametrize(
    ("kind", "task", "message"),
    [
        ("masks", "unified", "shows embolism by its masks, so the seg_head would learn nothing"),
        ("boxes", "det", "by its boxes, so the det_head"),
        ("slice", "cls", "by its label, so the cls_head"),
    ],
)
def test_a_head_that_could_learn_nothing_is_refused(repository, tmp_path, kind, task, message):
    root = write_tiny_dataset(tmp_path / "set")
    forget(root, kind)
    cfg = small_config(repository, root, tmp_path / "run", task=task)
    cfg.train_dataloader.dataset.needs = ()
    if task in ("cls", "det"):
        cfg.train_dataloader.sampler = dict(type="SliceSampler")
    with pytest.raises(ConfigError, match=message):
        PERunner.from_cfg(cfg).train()
    assert not list((tmp_path / "run").glob("*.pth"))


def test_one_positive_slice_is_enough_and_a_frozen_head_needs_none(repository, tmp_path):
    root = write_tiny_dataset(tmp_path / "set")
    forget(root, "masks", left=1)
    cfg = small_config(repository, root, tmp_path / "run", task="cls_seg", max_iters=1)
    PERunner.from_cfg(cfg).train()
    forget(root, "masks")
    cfg = small_config(repository, root, tmp_path / "frozen", task="cls_seg", max_iters=1)
    cfg.model.frozen = "seg_head"
    PERunner.from_cfg(cfg).train()
    assert (tmp_path / "frozen/iter_1.pth").is_file()


@pytest.mark.parametrize("kept", [1, None])
def test_steps_of_one_class_are_refused_beside_an_exam_head_too(repository, tmp_path, kept):
    """Where no step is labelled, exams alone teach."""
    root = write_tiny_exams(tmp_path / "set", slices=6, size=32)

    def edit(content):
        for image in content["images"]:
            if image["pe_present"] != kept:
                image["labels_known"], image["pe_present"] = [], None

    change(root, "train", edit)
    cfg = small_exam_config(repository, root, tmp_path / "run", "semi_weak", max_iters=4)
    runner = PERunner.from_cfg(cfg)
    if kept is None:
        runner.train()
        return
    with pytest.raises(ConfigError, match=r"its steps are all positive, so the step_head would"):
        runner.train()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.backbone.frozen_stages", 7, "model cannot be built: .*frozen_stages"),
        ("model.frozen", ["backbones"], "model cannot be built: .*backbones"),
        (
            "optim_wrapper.optimizer.lr",
            -1.0,
            "optim_wrapper cannot be built: Invalid learning rate",
        ),
        ("train_dataloader.sampler.type", "Samp", "train_dataloader or train_cfg cannot .*Samp"),
        ("default_hooks.checkpoint.max_keep", -1, "hooks cannot be built: .*at least 1"),
        ("val_evaluator.0.level", 95, "val_evaluator or val_cfg cannot .*between 0 and 1"),
    ],
)
def test_a_wrong_value_is_told_with_its_part(
    repository, tiny_dataset, tmp_path, key, value, message
):
    cfg = small_config(repository, tiny_dataset, tmp_path, task="cls")
    cfg.merge_from_dict({key: value})
    with pytest.raises(ConfigError, match=f"the config's .*{message}"):
        PERunner.from_cfg(cfg).train()


def test_a_missing_package_is_told_and_what_is_clear_is_left_alone():
    with (
        pytest.raises(ConfigError, match=r"visualizer cannot be built: no wandb"),
        building("visualizer"),
    ):
        raise ImportError("no wandb")
    with pytest.raises(DatasetError, match=r"^no masks$"), building("train_dataloader"):
        raise DatasetError("no masks")
    with pytest.raises(RuntimeError, match=r"^out of memory$"), building("model"):
        raise RuntimeError("out of memory")


def test_torchrun_is_asked_for(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="torchrun --nproc_per_node"):
        join_processes("pytorch")
