import itertools

import pytest
import torch
from mmengine.optim import OptimWrapper
from sklearn.metrics import log_loss

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.datasets.exam_sample import PEExamSample
from pe_unified.models.exam_model import PEExam
from pe_unified.models.exam_preprocessor import PEExamPreprocessor

GRAY = dict(type="PEExamPreprocessor", mean=[100.0], std=[50.0])
RESNET = dict(type="PEResNet", depth=18, base_channels=4, in_channels=1, norm_cfg=dict(type="BN"))
ENCODER = dict(type="BackboneEncoder", backbone=RESNET)
HEADS = dict(step_head=dict(type="StepHead"), exam_head=dict(type="ExamHead"))


def sample(steps, positive, known=True):
    found = PEExamSample(metainfo=dict(patient_id="P", study_uid="1"))
    found.gt_steps = torch.zeros(steps)
    found.gt_steps[steps // 2] = float(positive)
    found.gt_exam = torch.zeros(len(EXAM_TARGETS))
    found.gt_exam[0], found.gt_exam[1] = float(positive), float(not positive)
    if not known:
        found.gt_steps[:] = torch.nan
        found.gt_exam[:] = torch.nan
    return found


def images(*steps, size=32):
    generator = torch.Generator().manual_seed(0)
    shape = (1, size, size)
    return [
        torch.randint(0, 255, (n, *shape), dtype=torch.uint8, generator=generator) for n in steps
    ]


def batch(*steps):
    samples = [sample(n, k % 2) for k, n in enumerate(steps)]
    return {"inputs": images(*steps), "data_samples": samples}


@pytest.fixture
def model():
    torch.manual_seed(0)
    aggregator = dict(type="GRUAggregator", width=8)
    return PEExam(ENCODER, aggregator=aggregator, **HEADS, data_preprocessor=GRAY)


def test_predictions_do_not_depend_on_what_an_exam_is_batched_with(model):
    model.eval()
    with torch.no_grad():
        together = model.test_step(batch(5, 3, 7))
        alone = [
            model.test_step({"inputs": [image], "data_samples": [sample(len(image), 0)]})[0]
            for image in images(5, 3, 7)
        ]
    for one, other in zip(together, alone):
        for name in ("pred_exam", "pred_steps", "attention"):
            torch.testing.assert_close(one.get(name), other.get(name), atol=1e-5, rtol=1e-4)
        assert one.attention.sum(1).tolist() == pytest.approx([1.0] * len(EXAM_TARGETS), abs=1e-5)
    assert [len(each.pred_steps) for each in together] == [5, 3, 7]


def test_every_parameter_learns_and_the_losses_fall(model):
    wrapper = OptimWrapper(torch.optim.Adam(model.parameters(), lr=5e-3))
    data = batch(4, 6, 5, 4)
    losses = model(**model.data_preprocessor(data, True), mode="loss")
    assert set(losses) == {"step_loss_bce", "exam_loss_bce"}
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name
    first = model.train_step(data, wrapper)
    for _ in range(30):
        last = model.train_step(data, wrapper)
    assert last["loss"] < 0.5 * first["loss"]


def test_an_exam_of_which_nothing_is_known_teaches_nothing(model):
    data = {"inputs": images(4, 3), "data_samples": [sample(4, 0, known=False)] * 2}
    data["data_samples"][1] = sample(3, 0, known=False)
    cast = model.data_preprocessor(data, True)
    losses = model(**cast, mode="loss")
    assert sum(losses.values()) == 0
    sum(losses.values()).backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_phase_one_is_an_encoder_with_a_step_head_and_phase_two_reads_features():
    chunks = torch.randint(0, 255, (2, 1, 4, 16, 16), dtype=torch.uint8)
    first = PEExam(
        dict(type="R3D18Encoder", in_channels=1),
        step_head=dict(type="StepHead"),
        data_preprocessor=GRAY,
    )
    (found,) = first.test_step({"inputs": [chunks], "data_samples": [sample(2, 1)]})
    assert found.pred_steps.shape == (2,) and "pred_exam" not in found
    second = PEExam(in_channels=6, aggregator=dict(type="TCNAggregator", width=8), **HEADS)
    features = [torch.randn(5, 6).half(), torch.randn(3, 6).half()]
    found = second.test_step({"inputs": features, "data_samples": [sample(5, 1), sample(3, 0)]})
    assert [len(each.pred_steps) for each in found] == [5, 3]


@pytest.mark.parametrize("labels_from", ["steps", "exam"])
def test_what_a_slices_label_is(labels_from):
    """Pairs and steps learn from the slices' own labels, or from their exams'."""
    model = PEExam(
        ENCODER,
        pair_head=dict(type="PairHead", width=5),
        step_head=dict(type="StepHead"),
        labels_from=labels_from,
        data_preprocessor=GRAY,
    ).eval()
    given = model.data_preprocessor(batch(3, 2), True)
    given["data_samples"][0].gt_steps = torch.tensor([0.0, 1.0, torch.nan])
    given["data_samples"][0].gt_exam[0] = 1.0
    given["data_samples"][1].gt_steps = torch.zeros(2)
    given["data_samples"][1].gt_exam[0] = 0.0
    with torch.no_grad():
        losses, raw = model(**given, mode="loss"), model(given["inputs"], given["mask"])
    step = raw["step"][given["mask"]].sigmoid()
    kept, labels = ([0, 1, 3, 4], [0, 1, 0, 0])
    if labels_from == "exam":
        kept, labels = range(5), [1, 1, 1, 0, 0]
    golden = log_loss(labels, step[list(kept)], labels=[0, 1])
    assert losses["step_loss_bce"].item() == pytest.approx(golden, rel=1e-5)
    vectors = raw["features"][given["mask"]][list(kept)]
    same = [one == other for one, other in itertools.combinations(labels, 2)]
    with torch.no_grad():
        found = [
            model.pair_head(one[None], other[None]).sigmoid().item()
            for one, other in itertools.combinations(vectors, 2)
        ]
    golden = log_loss(same, found, labels=[0, 1])
    assert losses["pair_loss_bce"].item() == pytest.approx(golden, rel=1e-5)


def test_modes(model):
    given = model.data_preprocessor(batch(3, 2))
    with pytest.raises(ValueError, match="needs data_samples"):
        model(given["inputs"], given["mask"], mode="loss")
    with pytest.raises(ValueError, match="mode is"):
        model(**given, mode="losses")


def test_steps_that_read_the_encoder_know_nothing_of_each_other(model):
    for read, same in (("encoder", True), ("aggregator", False)):
        torch.manual_seed(0)
        aggregator = dict(type="GRUAggregator", width=8)
        each = PEExam(
            ENCODER, aggregator=aggregator, **HEADS, steps_read=read, data_preprocessor=GRAY
        ).eval()
        (image,) = images(4)
        other = image.clone()
        other[3] = 0
        found = [
            each.test_step({"inputs": [x], "data_samples": [sample(4, 0)]})[0].pred_steps[:3]
            for x in (image, other)
        ]
        assert torch.allclose(*found, atol=1e-6) is same


def test_what_is_frozen_stands_still(model):
    frozen = PEExam(ENCODER, **HEADS, frozen="encoder", data_preprocessor=GRAY).train()
    before = {name: value.clone() for name, value in frozen.encoder.state_dict().items()}
    wrapper = OptimWrapper(torch.optim.SGD(frozen.parameters(), lr=0.1))
    frozen.train_step(batch(3, 4), wrapper)
    for name, value in frozen.encoder.state_dict().items():
        assert torch.equal(before[name], value), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(**HEADS), "an encoder, or in_channels"),
        (dict(encoder=ENCODER, in_channels=3, **HEADS), "an encoder, or in_channels"),
        (dict(encoder=ENCODER), "needs step_head"),
        (dict(encoder=ENCODER, **HEADS, steps_read="both"), "steps_read is"),
    ],
)
def test_settings_that_make_no_model_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PEExam(**settings)


def test_windows_and_preprocessor_agree():
    with pytest.raises(ValueError, match="exams of 1 channels, but mean and std of 3"):
        PEExamPreprocessor()({"inputs": images(2)})
