import argparse
import re
import shlex

import pytest
from mmengine.config import Config, DictAction
from tiny_run import small_config

from pe_unified.engine import ConfigError, PERunner, load_config
from pe_unified.engine.evaluate import evaluate_checkpoint
from pe_unified.engine.inputs import require_same_input
from pe_unified.engine.publish import publish

MARGIN = "test_dataloader.dataset.pipeline.1.margin_mm"


@pytest.fixture(scope="module")
def path(repository):
    return repository / "configs/pe_cls_r50.py"


def stored(cfg):
    return {"meta": {"cfg": cfg.to_dict()}}


def options_of(message):
    """What a message tells to repeat, as the command line reads it."""
    words = shlex.split(re.search(r"repeat --cfg-options (.*), or name", message)[1])
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    return parser.parse_args(["--cfg-options", *words]).cfg_options


@pytest.fixture(scope="module")
def trained(repository, tiny_dataset, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("trained")
    PERunner.from_cfg(
        small_config(repository, tiny_dataset, work_dir, task="cls", max_iters=1)
    ).train()
    return work_dir / "iter_1.pth"


def test_what_bears_on_training_or_the_machine_may_differ(path):
    before = load_config(path, {"lr": 1.0, "max_iters": 7, "seed": 3}, "elsewhere")
    require_same_input(load_config(path), "a.pth", stored(before))
    require_same_input(load_config(path), "a.pth", {"state_dict": {}})
    # Lists of the command line stand for tuples of a file.
    before = load_config(path, {"input_size": (384, 512)})
    require_same_input(load_config(path, {"input_size": [384, 512]}), "a.pth", stored(before))


def test_a_config_that_only_tests_is_compared_by_its_test(path):
    before = stored(load_config(path))
    cfg = load_config(path)
    cfg.val_dataloader = None
    require_same_input(cfg, "a.pth", before)
    cfg = load_config(path, {"windows": ["pe"]})
    cfg.val_dataloader = None
    with pytest.raises(ConfigError, match="windows was"):
        require_same_input(cfg, "a.pth", before)


@pytest.mark.parametrize(
    "trained_with",
    [
        {"windows": ["pe", (40, 350.0)]},
        {"neighbours": 1},
        {"input_size": (384, 512), "windows": ["pe"]},
        {MARGIN: 3.0},
        {"test_dataloader.dataset.pipeline.1.jitter": 0.1},
    ],
)
def test_every_difference_is_named_with_its_cure(path, trained_with):
    before = load_config(path, trained_with)
    with pytest.raises(ConfigError, match=r"a\.pth was trained with another input") as refused:
        require_same_input(load_config(path), "a.pth", stored(before))
    for key, value in trained_with.items():
        assert f"{key} was {value!r}" in str(refused.value)
    options = options_of(str(refused.value))
    assert options == trained_with
    require_same_input(load_config(path, options), "a.pth", stored(before))


def test_another_network_is_a_difference_where_weights_would_fit(repository):
    det = repository / "configs/pe_det_r50.py"
    scales = "model.det_head.rpn_head.anchor_generator.scales"
    before = stored(load_config(det, {scales: [1.0, 1.75]}))
    with pytest.raises(ConfigError, match=rf"{scales} was \[1\.0, 1\.75\]"):
        require_same_input(load_config(det, {}), "a.pth", before)
    mean = {"model.data_preprocessor.mean": [10.0, 10.0, 10.0]}
    before = stored(load_config(det, mean))
    with pytest.raises(ConfigError, match=r"or network.*data_preprocessor\.mean was") as refused:
        require_same_input(load_config(det), "a.pth", before)
    assert options_of(str(refused.value)) == mean
    require_same_input(load_config(det, mean), "a.pth", before)
    require_same_input(load_config(det), "a.pth", before, named=mean)


def test_what_bears_on_training_alone_may_differ(path):
    alone = {
        "pretrained": None,
        "frozen_stages": 2,
        "model.cls_head.dropout": 0.5,
        "model.task_weights.cls": 3.0,
        "model.frozen": ["backbone"],
    }
    require_same_input(load_config(path), "a.pth", stored(load_config(path, alone)))


def test_only_what_the_user_names_may_differ(path):
    before = stored(load_config(path))
    named = {"input_size": (384, 512)}
    require_same_input(load_config(path, named), "a.pth", before, named)
    place = {"test_dataloader.dataset.pipeline.1.margin_mm": 3.0}
    require_same_input(load_config(path, place), "a.pth", before, ["test_dataloader.dataset"])
    with pytest.raises(ConfigError, match="neighbours was 0, is 1") as refused:
        require_same_input(load_config(path, {**named, "neighbours": 1}), "a.pth", before, named)
    assert "input_size" not in str(refused.value)


def test_another_transform_is_a_difference(path, tmp_path):
    child = tmp_path / "child.py"
    child.write_text(
        f"_base_ = {str(path)!r}\n"
        "test_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadCTSlice')]))\n"
    )
    with pytest.raises(ConfigError, match=r"pipeline\.1\.type was 'CropToLungs', is None"):
        require_same_input(Config.fromfile(child), "a.pth", stored(load_config(path)))


def test_evaluating_and_publishing_refuse_another_input(
    trained, repository, tiny_dataset, tmp_path
):
    cfg = small_config(repository, tiny_dataset, tmp_path, task="cls", input_size=96)
    out = tmp_path / "model.pth"
    with pytest.raises(ConfigError, match="input_size was 64, is 96"):
        evaluate_checkpoint(cfg, trained)
    with pytest.raises(ConfigError, match="input_size was 64, is 96"):
        publish(cfg, trained, out)
    assert not list(tmp_path.iterdir())
    assert evaluate_checkpoint(cfg, trained, named=["input_size"]).metrics
    publish(cfg, trained, out, named=["input_size"])
    assert out.is_file()


@pytest.mark.parametrize("tool", ["test", "publish"])
def test_the_tools_let_pass_what_the_command_line_names(
    trained, command, path, tiny_dataset, tmp_path, tool
):
    files = [trained, tmp_path / "model.pth"] if tool == "publish" else [trained]
    named = ["--cfg-options", "neighbours=1"]
    done = command(tool, path, *files, "--data-root", tiny_dataset, *named)
    assert done.returncode == 1
    assert "input_size was 64, is 512" in done.stderr and "neighbours" not in done.stderr
    network = {"model.backbone.depth": 18, "model.backbone.base_channels": 8}
    assert options_of(done.stderr) == {"input_size": 64, **network}
