"""The detector of lungs learns, and its boxes lie in the stored slice."""

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from tiny_exams import write_tiny_exams

from pe_unified.engine import PERunner, load_config
from pe_unified.engine.publish import publish
from pe_unified.errors import CheckpointError
from pe_unified.inference.lung_finder import load_lung_finder
from pe_unified.inference.model import load_model
from pe_unified.registry import MODELS
from pe_unified.testing import tiny_batch


@pytest.fixture(scope="module")
def cfg(repository):
    cfg = load_config(repository / "configs/cascade/lung_detector.py")
    parts = cfg.model
    parts.backbone.deepen_factor, parts.backbone.widen_factor = 0.1, 0.125
    parts.neck.in_channels, parts.neck.out_channels = [32, 64, 128], 32
    parts.bbox_head.in_channels = parts.bbox_head.feat_channels = 32
    return cfg


@pytest.fixture
def model(cfg):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("pe_unified"):
        return MODELS.build(cfg.model)


def batch_of(model, labels=("det",), **options):
    return model.data_preprocessor(tiny_batch(labels=labels, **options))


def test_every_parameter_gets_a_gradient_and_losses_their_names(model):
    losses = model(**batch_of(model.train()), mode="loss")
    assert set(losses) == {"lung_box_loss_cls", "lung_box_loss_bbox"}
    sum(losses.values()).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


def test_a_slice_of_which_lung_is_unknown_teaches_nothing(model):
    model.eval()
    known = model(**batch_of(model), mode="loss")
    both = batch_of(model, labels=[("det",), ("det",), ()], batch_size=3)
    for name, value in model(**both, mode="loss").items():
        assert float(value.detach()) == pytest.approx(float(known[name].detach()), rel=1e-4)
    nothing = model(**batch_of(model, labels=[(), ()]), mode="loss")
    assert [float(value.detach()) for value in nothing.values()] == [0.0]
    assert nothing["lung_box_loss_cls"].requires_grad


def test_boxes_lie_in_the_stored_slice(model):
    model.eval().init_weights()
    for layer in model.bbox_head.rtm_reg:  # distances of a stride to each side
        torch.nn.init.constant_(layer.bias, 1.0)
    batch = batch_of(model, positive=[True, True])
    for sample in batch["data_samples"]:
        sample.set_metainfo(dict(ori_shape=(200, 300), crop_box=(100, 50, 228, 178)))
    with torch.no_grad():
        for sample in model(**batch, mode="predict"):
            boxes = sample.pred_instances.bboxes
            assert len(boxes) and len(boxes) == len(sample.pred_instances.scores)
            assert (boxes[:, 0] >= 99).all() and (boxes[:, 2] <= 300).all()


def test_from_training_to_a_finder_of_lungs(cfg, repository, tmp_path):
    """What it learned is not taken for an answer about emboli."""
    data = write_tiny_exams(tmp_path / "data")
    settings = dict(
        input_size=64, batch_size=4, num_workers=0, precision="fp32", model=cfg.model.to_dict()
    )
    path = repository / "configs/cascade/lung_detector.py"
    own = load_config(path, {"max_iters": 2}, str(data), settings=[settings])
    own.work_dir = str(tmp_path / "run")
    PERunner.from_cfg(own).train()
    own.work_dir = str(tmp_path / "publish")
    validated = publish(own, tmp_path / "run/iter_2.pth", tmp_path / "lungs.pth").validated
    assert "lung_box/threshold" in validated
    finder = load_lung_finder(tmp_path / "lungs.pth", device="cpu")
    assert finder.threshold == validated["lung_box/threshold"] and finder.neighbours == 0
    with pytest.raises(
        CheckpointError, match=r"a detector of lungs, where .* takes it as --lung-checkpoint"
    ):
        load_model(tmp_path / "lungs.pth")
    assert np.isfinite(finder.threshold)
