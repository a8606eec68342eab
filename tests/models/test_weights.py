import os
import re

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from packaging.version import parse
from torch import nn

from pe_unified.models.weights import (
    CheckpointError,
    ReuseError,
    ReuseReport,
    load_checkpoint_safely,
    reuse_weights,
    take_over,
)

#: Whether torch tells what a checkpoint would run, and lets single methods pass.
ENTRIES_HAVE_NAMES = parse(torch.__version__) >= parse("2.6")


class _RunsCode:
    def __reduce__(self):
        return os.system, ("true",)


def _model(width: int = 3) -> nn.Module:
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width))
    model.seg_head = nn.Module()
    model.seg_head.decoder = nn.Conv2d(width, 2, 1)
    model.seg_head.conv_seg = nn.Conv2d(2, 1, 1)
    return model


def _saved(tmp_path, model, name="s1.pth", **more):
    path = tmp_path / name
    torch.save({"state_dict": model.state_dict(), "meta": {"step": "s1_cls"}, **more}, path)
    return path


def test_takes_a_module_from_a_checkpoint_and_reports(tmp_path):
    source, model = _model(), _model()
    before = model.seg_head.conv_seg.weight.clone()
    (report,) = reuse_weights(model, {"backbone": ("s1_cls", _saved(tmp_path, source))})
    assert report == ReuseReport("backbone", "s1_cls", 7, 7)
    assert str(report) == "backbone: 7 of 7 tensors from s1_cls"
    assert report.as_dict() == {"module": "backbone", "from": "s1_cls", "tensors": 7, "total": 7}
    for ours, theirs in zip(model.backbone.parameters(), source.backbone.parameters()):
        assert torch.equal(ours, theirs)
    assert torch.equal(model.seg_head.conv_seg.weight, before), "what has no rule stays"


def test_takes_parts_of_parts_from_several_sources(tmp_path):
    first, second, model = _model(), _model(), _model()
    path = _saved(tmp_path, first)
    reports = reuse_weights(model, {"backbone": path, "seg_head.decoder": second.state_dict()})
    assert [(report.module, report.tensors, report.total) for report in reports] == [
        ("backbone", 7, 7),
        ("seg_head.decoder", 2, 2),
    ]
    assert reports[0].source == str(path)
    assert torch.equal(model.seg_head.decoder.weight, second.seg_head.decoder.weight)


def test_the_source_may_hold_a_module_under_another_name(tmp_path):
    source, model = _model(), nn.Module()
    model.encoder = _model()
    path = _saved(tmp_path, source)
    reports = reuse_weights(
        model, {"encoder.backbone:backbone": path, "encoder.seg_head:seg_head": ("s2", path)}
    )
    assert reports == [
        ReuseReport("encoder.backbone", str(path), 7, 7),
        ReuseReport("encoder.seg_head", "s2", 4, 4),
    ]
    assert torch.equal(model.encoder.backbone[0].weight, source.backbone[0].weight)
    with pytest.raises(ReuseError, match=r"encoder\.backbone: none of its 7 tensors"):
        reuse_weights(model, {"encoder.backbone:trunk": path})
    with pytest.raises(ReuseError, match="no module 'trunk'; it has encoder"):
        reuse_weights(model, {"trunk:backbone": path})


@pytest.mark.parametrize(
    "rules, reason",
    [
        (lambda: {"neck": _model().state_dict()}, "no module 'neck'; it has backbone, seg_head"),
        (lambda: {"backbone": {"other.weight": torch.zeros(1)}}, "none of its 7 tensors"),
        (
            lambda: {"backbone": _model(width=4).state_dict()},
            r"shapes differ: 0.weight \(4, 3, 1, 1\) for \(3, 3, 1, 1\)",
        ),
        (
            lambda: {"backbone": {"backbone.0.weight": torch.zeros(3, 3, 1, 1)}},
            "missing: 0.bias, 1.weight",
        ),
        (
            lambda: {"backbone": {**_model().state_dict(), "backbone.2.weight": torch.zeros(1)}},
            "unknown to the module: 2.weight",
        ),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_the_tensors(rules, reason):
    model = _model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ReuseError, match=reason):
        reuse_weights(model, rules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), "nothing is taken over by halves"


def test_declared_fresh_tensors_may_be_missing():
    model = _model()
    tensors = {key: value for key, value in model.backbone.state_dict().items() if key[0] == "0"}
    report = take_over(model.backbone, tensors, "backbone", "there", fresh=("1.",))
    assert (report.tensors, report.total) == (2, 7)


def test_older_files_without_batch_counts_fit():
    model = _model()
    tensors = model.backbone.state_dict()
    del tensors["1.num_batches_tracked"]
    assert take_over(model.backbone, tensors, "backbone", "there").tensors == 6


def test_pickled_code_is_refused_unless_trusted(tmp_path):
    path = _saved(tmp_path, _model(), extra=_RunsCode())
    named = ".*system" if ENTRIES_HAVE_NAMES else ""
    with pytest.raises(CheckpointError, match=rf"s1\.pth: refused{named}.*--trust-checkpoint"):
        load_checkpoint_safely(path)
    with pytest.raises(CheckpointError, match="--trust-checkpoint"):
        reuse_weights(_model(), {"backbone": path})
    assert set(load_checkpoint_safely(path, trust=True)) == {"state_dict", "meta", "extra"}
    assert reuse_weights(_model(), {"backbone": path}, trust=True)[0].tensors == 7


@pytest.mark.skipif(not ENTRIES_HAVE_NAMES, reason="torch before 2.6 cannot be told of methods")
def test_what_mmengine_writes_is_read_without_trust(tmp_path):
    hub = MessageHub.get_instance("test_weights")
    hub.update_scalar("train/loss", 1.5)
    hub.update_info("best", np.float32(0.25))
    path = _saved(tmp_path, _model(), message_hub=hub.state_dict())
    loaded = load_checkpoint_safely(path)["message_hub"]
    assert loaded["log_scalars"]["train/loss"].mean() == 1.5
    assert loaded["runtime_info"]["best"] == np.float32(0.25)


def test_getattr_in_a_checkpoint_reaches_nothing_else(tmp_path):
    class Reaches:
        def __reduce__(self):
            return getattr, (np.ndarray, "tofile")

    path = _saved(tmp_path, _model(), extra=Reaches())
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoint_safely(path)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.98])
@pytest.mark.parametrize("trust", [False, True])
def test_a_file_cut_off_is_named(tmp_path, share, trust):
    path = _saved(tmp_path, _model(width=64))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(path))}: not a whole checkpoint"):
        load_checkpoint_safely(path, trust)


def test_other_files_are_named(tmp_path):
    (tmp_path / "notes.pth").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"notes\.pth"):
        load_checkpoint_safely(tmp_path / "notes.pth")
    for content, kind in (
        ("<!DOCTYPE html><html>404</html>", "a web page"),
        ("version https://git-lfs.github.com/spec/v1\noid", "a pointer of git-lfs"),
    ):
        (tmp_path / "notes.pth").write_text(content)
        with pytest.raises(
            CheckpointError, match=f"no checkpoint .{kind}.*fetch it again"
        ) as found:
            load_checkpoint_safely(tmp_path / "notes.pth")
        assert "trust" not in str(found.value)
    with pytest.raises(CheckpointError, match="holds a list"):
        load_checkpoint_safely(tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint_safely(tmp_path / "absent.pth")
