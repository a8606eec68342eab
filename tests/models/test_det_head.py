import copy
from pathlib import Path

import mmdet
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from part_testers import LEVELS, HeadTester, levels_for

from pe_unified.models.heads.det_parts import completed_parts
from pe_unified.registry import MODELS
from pe_unified.testing import tiny_batch, usual_det_head

SMALL = dict(
    neck=dict(out_channels=12),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(output_size=3)), bbox_head=dict(fc_out_channels=16)
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=100, max_per_img=20), rcnn=dict(sampler=dict(num=16))),
    test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=10)),
)


def small_head(*changes):
    return MODELS.build({**LEVELS, **usual_det_head(SMALL, *changes)})


class TestFourLevels(HeadTester):
    task, prediction_fields = "det", ("pred_instances",)

    def build(self, **options):
        return small_head(options)


class TestThreeLevelsAndOneMore(TestFourLevels):
    def build(self, **options):
        return small_head(dict(levels=3, neck=dict(num_outs=4)), options)


def test_stock_settings_are_mmdets(repository):
    """Against the configuration file that mmdet installs."""
    folder = Path(mmdet.__file__).parent / ".mim/configs/_base_/models"
    theirs = Config.fromfile(folder / "faster-rcnn_r50_fpn.py").model
    head = Config.fromfile(repository / "configs/ablations/det_r50_stock.py").model.det_head
    head = head.to_dict()
    assert head.pop("type") == "PEDetHead"
    runs = {name: head.pop(name) for name in ("train_cfg", "test_cfg")}
    parts = {**completed_parts((256, 512, 1024, 2048), (4, 8, 16, 32), **head), **runs}
    changed = {
        "roi_head.bbox_head.num_classes": (80, 1),
        "roi_head.bbox_roi_extractor.finest_scale": (None, 56),  # mmdet's default argument
        "roi_head.bbox_roi_extractor.roi_layer.use_torchvision": (None, True),
    }
    ours = _flat(parts)
    reference = _flat({name: theirs[name].to_dict() for name in parts})
    differing = {
        key: (reference.get(key), ours.get(key))
        for key in reference.keys() | ours.keys()
        if _plain(reference.get(key)) != _plain(ours.get(key))
    }
    assert differing == changed


def _flat(tree, prefix=""):
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        key: value
        for name, branch in tree.items()
        for key, value in _flat(branch, f"{prefix}.{name}".lstrip(".")).items()
    }


def _plain(value):
    return value.removeprefix("mmdet.") if isinstance(value, str) else value


def test_anchors_cover_emboli():
    head = small_head()
    anchors = torch.cat(head.rpn_head.prior_generator.base_anchors)
    sides = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1).sqrt()
    assert sides.min().item() == pytest.approx(6, abs=0.01)
    assert sides.max().item() == pytest.approx(48, abs=0.01)


def test_two_pixel_boxes_are_learnt_from():
    """No filter on size: the smallest embolus has a positive anchor."""
    head = small_head().train()
    (sample,) = tiny_batch(batch_size=1, labels=("det",))["data_samples"]
    sample.set_metainfo({"pad_shape": (64, 64)})
    sample.set_gt_boxes(torch.tensor([[20.0, 30, 22, 32]]))
    losses = head.loss(levels_for((64, 64), batch=1), [sample])
    assert losses["loss_rpn_bbox"] > 0
    assert losses["loss_roi_bbox"] > 0, "the true box itself is among the RoI head's samples"


def test_negatives_teach_the_scores_only():
    head = small_head().train()
    samples = tiny_batch(labels=("det",), positive=[False, False])["data_samples"]
    for sample in samples:
        sample.set_metainfo({"pad_shape": (64, 64)})
    losses = head.loss(levels_for((64, 64)), samples)
    assert losses["loss_rpn_bbox"] == 0
    assert losses["loss_roi_bbox"] == 0
    assert losses["loss_rpn_cls"] > 0
    assert losses["loss_roi_cls"] > 0


def test_boxes_return_to_the_slice(monkeypatch):
    head = small_head().eval()
    known = torch.tensor([[10.0, 20, 30, 40], [0, 0, 64, 64]])
    found = InstanceData(
        bboxes=known, scores=torch.tensor([0.9, 0.5]), labels=torch.zeros(2).long()
    )
    monkeypatch.setattr(head.roi_head, "predict", lambda *args, **kwargs: [found])
    (sample,) = tiny_batch(batch_size=1, labels=())["data_samples"]
    sample.set_metainfo(
        dict(ori_shape=(512, 512), crop_box=(100, 200, 132, 264), img_shape=(64, 64))
    )
    head.predict(levels_for((64, 64), batch=1), [sample])
    # The crop is 32 x 64 pixels, shown as 64 x 64: x was doubled, y was not.
    golden = [[105.0, 220, 115, 240], [100, 200, 132, 264]]
    assert sample.pred_instances.bboxes.tolist() == golden
    assert sample.pred_instances.scores.tolist() == pytest.approx([0.9, 0.5])


def test_anchors_and_boxes_stay_in_float32_under_autocast():
    """bfloat16 cannot tell 501 from 502; the anchors of a wide slice must."""
    torch.manual_seed(0)
    head = small_head().eval()
    (sample,) = tiny_batch(size=(32, 512), batch_size=1, labels=())["data_samples"]
    sample.set_metainfo({"pad_shape": (32, 512)})
    levels = levels_for((32, 512), batch=1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores, offsets = head(levels)
        head.predict(levels, [sample])
    assert {level.dtype for level in (*scores, *offsets)} == {torch.float32}
    boxes = sample.pred_instances.bboxes
    assert boxes.dtype == torch.float32
    right = boxes[boxes > 256]
    assert len(right)
    assert not torch.equal(right, right.bfloat16().float())


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="anchor_size"):
        small_head(dict(anchor_size=8))
    with pytest.raises(ValueError, match="levels is 1 to 4"):
        small_head(dict(levels=5))


def test_the_config_is_left_as_it_is():
    config = usual_det_head(SMALL)
    before = copy.deepcopy(config)
    MODELS.build({**LEVELS, **config})
    assert config == before
