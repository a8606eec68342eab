from functools import lru_cache

import pytest
import torch
from torch import nn

from pe_unified.errors import CheckpointError
from pe_unified.models.weights import ReuseError, ReuseReport, reuse_weights, take_over


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
    path = _saved(tmp_path, _model(), extra=lru_cache)
    with pytest.raises(CheckpointError, match="--trust-checkpoint"):
        reuse_weights(_model(), {"backbone": path})
    assert reuse_weights(_model(), {"backbone": path}, trust=True)[0].tensors == 7
