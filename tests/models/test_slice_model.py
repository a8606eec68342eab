import copy
import itertools

import pytest
import torch
from part_testers import round_trip, without_gradient
from torchvision.ops import box_iou

from pe_unified.registry import MODELS
from pe_unified.testing import tiny_batch, tiny_model_config

TASKS = ("cls", "seg", "det")
LOSS_KEYS = {
    "cls": {"cls_loss_ce"},
    "seg": {"seg_loss_dice", "seg_loss_bce"},
    "det": {"det_loss_rpn_cls", "det_loss_rpn_bbox", "det_loss_roi_cls", "det_loss_roi_bbox"},
}
FIELDS = {
    "cls": {"pred_score"},
    "seg": {"seg_prob", "pred_sem_seg"},
    "det": {"pred_instances"},
}


def _build(heads=TASKS, backbone="resnet", **changes):
    torch.manual_seed(0)
    return MODELS.build({**tiny_model_config(heads, backbone), **changes})


def _losses(model, batch):
    data = model.data_preprocessor(batch, True)
    torch.manual_seed(1)
    return model(**data, mode="loss")


def _predict(model, batch, **options):
    with torch.no_grad():
        return model.eval().test_step({**batch, **options})


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
@pytest.mark.parametrize("heads", [("cls",), ("seg",), ("det",), TASKS])
def test_any_heads_train_and_predict(backbone, heads):
    model = _build(heads, backbone).train()
    losses = _losses(model, tiny_batch((97, 131)))
    assert set(losses) == set().union(*(LOSS_KEYS[task] for task in heads))
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(losses.values()))
    total.backward()
    assert without_gradient(model) == []
    for sample in _predict(model, tiny_batch((97, 131))):
        present = set().union(*(FIELDS[task] for task in heads))
        assert present <= set(sample.keys())
        assert not (set().union(*FIELDS.values()) - present) & set(sample.keys())


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
@pytest.mark.parametrize(
    "known", [c for n in range(4) for c in itertools.combinations(TASKS, n)], ids=str
)
def test_an_absent_task_costs_nothing_but_keeps_its_gradient(backbone, known):
    model = _build(backbone=backbone).train()
    losses = _losses(model, tiny_batch(labels=known, batch_size=2))
    assert set(losses) == set().union(*LOSS_KEYS.values())
    for task in TASKS:
        for key in LOSS_KEYS[task]:
            if task not in known:
                assert losses[key] == 0
                assert losses[key].requires_grad
    sum(losses.values()).backward()
    assert without_gradient(model) == [], "distributed training waits for every parameter"
    for task in TASKS:
        moved = any(p.grad.abs().sum() > 0 for p in model.head(task).parameters())
        assert moved == (task in known)


@pytest.mark.parametrize("task", TASKS)
def test_each_head_learns_from_its_own_samples_only(task):
    """In a mixed batch a head's losses are those of its samples alone."""
    model = _build().eval()
    labels = [("cls", "seg", "det") if i in (1, 2) else () for i in range(4)]
    others = tuple(other for other in TASKS if other != task)
    labels = [(*known, *others) if not known else (task,) for known in labels]
    mixed = tiny_batch(batch_size=4, labels=labels, seed=3)
    own = {key: values[1:3] for key, values in copy.deepcopy(mixed).items()}
    together, alone = _losses(model, mixed), _losses(model, own)
    for key in LOSS_KEYS[task]:
        if task == "det" and "loss_r" in key:
            # Anchors and proposals are sampled at random; the draws differ with the batch.
            continue
        torch.testing.assert_close(together[key], alone[key], rtol=1e-4, atol=1e-5)


def test_det_learns_from_its_own_samples_only_when_nothing_is_left_to_chance():
    config = tiny_model_config(("det",))
    train = config["det_head"]["train_cfg"]
    train["rpn"]["sampler"]["num"] = train["rcnn"]["sampler"]["num"] = 10**6
    torch.manual_seed(0)
    model = MODELS.build(config).eval()
    mixed = tiny_batch(batch_size=4, labels=[("cls",), ("det",), ("det",), ("seg",)], seed=3)
    own = {key: values[1:3] for key, values in copy.deepcopy(mixed).items()}
    together, alone = _losses(model, mixed), _losses(model, own)
    for key in LOSS_KEYS["det"]:
        torch.testing.assert_close(together[key], alone[key], rtol=1e-4, atol=1e-5)


def test_only_negatives_train():
    model = _build().train()
    losses = _losses(model, tiny_batch(positive=[False, False]))
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_task_weights_scale_their_losses():
    plain = _losses(_build().eval(), tiny_batch())
    weighted = _losses(_build(task_weights=dict(seg=0.25, det=3.0)).eval(), tiny_batch())
    for key, value in plain.items():
        factor = {"cls": 1.0, "seg": 0.25, "det": 3.0}[key[:3]]
        torch.testing.assert_close(weighted[key], value * factor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_evaluation_is_deterministic(backbone):
    model = _build(backbone=backbone)
    first, second = (_predict(model, tiny_batch((64, 96), batch_size=3)) for _ in range(2))
    for one, two in zip(first, second):
        assert torch.equal(one.pred_score, two.pred_score)
        assert torch.equal(one.seg_prob.data, two.seg_prob.data)
        assert torch.equal(one.pred_instances.bboxes, two.pred_instances.bboxes)


def test_some_heads_only():
    model = _build().eval()
    (sample,) = _predict(model, tiny_batch(batch_size=1), heads=("cls",))
    assert "pred_score" in sample
    assert not {"seg_prob", "pred_instances"} & set(sample.keys())
    with torch.no_grad():
        outputs = model(torch.zeros(1, 3, 64, 64), heads=("seg",))
    assert set(outputs) == {"seg"}


def test_a_loss_on_some_heads_reaches_the_others_with_zeros():
    model = _build().train()
    data = model.data_preprocessor(tiny_batch(), True)
    losses = model(**data, mode="loss", heads=("cls",))
    assert set(losses) == LOSS_KEYS["cls"]
    sum(losses.values()).backward()
    assert without_gradient(model) == []


def test_raw_outputs():
    with torch.no_grad():
        outputs = _build().eval()(torch.zeros(2, 3, 64, 64))
    assert outputs["cls"].shape == (2, 2)
    assert outputs["seg"].shape == (2, 1, 32, 32)
    scores, offsets = outputs["det"]
    assert [level.shape[-1] for level in scores] == [16, 8, 4, 2]
    assert [level.shape[1] for level in offsets] == [12] * 4


def test_predicts_without_samples():
    with torch.no_grad():
        samples = _build().eval()(torch.zeros(2, 3, 64, 96), mode="predict")
    assert [sample.seg_prob.data.shape for sample in samples] == [(1, 64, 96)] * 2


def test_predictions_lie_in_the_stored_slice(monkeypatch):
    """A network that answers with what it is shown, on a crop that is enlarged and padded."""
    model = _build(("seg",)).eval()
    stored = torch.zeros(100, 120)
    stored[30:44, 50:61] = 1
    shown = stored[20:60, 40:70].repeat_interleave(2, 0).repeat_interleave(2, 1)  # 80 x 60
    batch = tiny_batch(size=(80, 60), batch_size=1, labels=())
    batch["data_samples"][0].set_metainfo(
        dict(ori_shape=(100, 120), crop_box=(40, 20, 70, 60), scale_factor=(2.0, 2.0))
    )
    logits = torch.nn.functional.pad(shown * 40 - 20, (0, 4, 0, 16), value=20.0)
    monkeypatch.setattr(model.seg_head, "forward", lambda *args: logits[None, None])
    (sample,) = _predict(model, batch)
    assert torch.equal(sample.pred_sem_seg.data[0].float(), stored)


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_bfloat16_autocast_trains_and_predicts(backbone):
    model = _build(backbone=backbone).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = _losses(model, tiny_batch())
    sum(losses.values()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    exact = _predict(model, tiny_batch())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = _predict(model, tiny_batch())
    for one, two in zip(exact, rounded):
        for value in (two.pred_score, two.seg_prob.data, two.pred_instances.bboxes):
            assert value.dtype == torch.float32
        torch.testing.assert_close(one.pred_score, two.pred_score, rtol=0, atol=0.05)
        torch.testing.assert_close(one.seg_prob.data, two.seg_prob.data, rtol=0, atol=0.05)


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_channels_last_is_one_switch_and_changes_nothing(backbone):
    plain = _build(backbone=backbone)
    preprocessor = dict(tiny_model_config()["data_preprocessor"], channels_last=True)
    last = _build(backbone=backbone, data_preprocessor=preprocessor)
    round_trip(plain, last)
    convolution = next(m for m in last.modules() if isinstance(m, torch.nn.Conv2d))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    for one, two in zip(_predict(plain, tiny_batch()), _predict(last, tiny_batch())):
        torch.testing.assert_close(one.pred_score, two.pred_score, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.seg_prob.data, two.seg_prob.data, rtol=1e-4, atol=1e-5)


def test_frozen_parts_stand_still_through_training():
    model = _build(frozen=("backbone", "seg_head.decoder")).eval().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        optimiser.zero_grad()
        sum(_losses(model, tiny_batch()).values()).backward()
        optimiser.step()
    moved = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert not any(name.startswith(("backbone.", "seg_head.decoder.")) for name in moved)
    assert {"cls_head.fc.weight", "seg_head.conv_seg.weight"} <= moved


def test_configs_are_left_as_they_were():
    config = tiny_model_config()
    before = copy.deepcopy(config)
    MODELS.build(config)
    MODELS.build(config)
    assert config == before


@pytest.mark.parametrize("heads", [("cls",), TASKS])
def test_saves_and_loads(heads):
    first, second = _build(heads), _build(heads)
    torch.nn.init.normal_(first.cls_head.fc.weight)
    round_trip(first, second)
    for one, two in zip(_predict(first, tiny_batch()), _predict(second, tiny_batch())):
        assert torch.equal(one.pred_score, two.pred_score)


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="at least one of cls_head"):
        _build(())
    with pytest.raises(ValueError, match=r"unknown task \['segm'\]"):
        _build(task_weights=dict(segm=2.0))
    model = _build(("cls",))
    with pytest.raises(KeyError, match="no 'seg' head; it has: cls"):
        model(torch.zeros(1, 3, 64, 64), heads=("seg",))
    with pytest.raises(ValueError, match="needs data_samples"):
        model(torch.zeros(1, 3, 64, 64), mode="loss")
    with pytest.raises(ValueError, match="mode is"):
        model(torch.zeros(1, 3, 64, 64), mode="export")


def _overfit(heads, iterations, batch):
    model = _build(heads).train()
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    for _ in range(iterations):
        data = model.data_preprocessor(copy.deepcopy(batch), True)
        optimiser.zero_grad()
        loss, _ = model.parse_losses(model(**data, mode="loss"))
        loss.backward()
        optimiser.step()
        schedule.step()
    return _predict(model, copy.deepcopy(batch))


def test_classification_learns_a_batch():
    batch = tiny_batch(batch_size=4, labels=("cls",))
    scores = [sample.pred_score[1].item() for sample in _overfit(("cls",), 30, batch)]
    assert min(scores[0], scores[2]) > 0.8
    assert max(scores[1], scores[3]) < 0.2


def test_segmentation_learns_a_batch():
    batch = tiny_batch(batch_size=4, labels=("seg",))
    truth = torch.stack([sample.gt_sem_seg.data for sample in batch["data_samples"]])
    samples = _overfit(("seg",), 60, batch)
    found = torch.stack([sample.pred_sem_seg.data for sample in samples])
    dice = 2 * (found * truth).sum() / (found.sum() + truth.sum())
    assert dice > 0.8


@pytest.mark.slow
def test_detection_learns_a_batch():
    batch = tiny_batch(batch_size=4, labels=("det",))
    for sample in _overfit(("det",), 80, batch):
        found = sample.pred_instances[sample.pred_instances.scores > 0.5]
        if len(sample.gt_instances) == 0:
            assert len(found) == 0
            continue
        overlap = box_iou(sample.gt_instances.bboxes, found.bboxes)
        assert (overlap.amax(dim=1) > 0.5).all(), "every disc is found"
        assert (overlap.amax(dim=0) > 0.1).all(), "nothing is found elsewhere"
