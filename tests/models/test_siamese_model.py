import itertools

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement
from part_testers import exam_features, without_gradient
from sklearn.metrics import log_loss

from pe_unified.models import PairHead, SiameseExam
from pe_unified.models.heads.pairs import contrastive_loss
from pe_unified.registry import MODELS

ENCODER = dict(
    type="pe_unified.BackboneEncoder",
    backbone=dict(type="pe_unified.PEResNet", depth=18, base_channels=8),
    projection=6,
)
BRANCHES = dict(type="pe_unified.WindowBranches", widths=(4, 4, 4, 4, 4), out_channels=6)
POSITIVE = ("positive_exam_for_pe",)
ATTENTION = dict(type="pe_unified.ExamHead", pool="attention", labels=POSITIVE)
STEP, PAIR = dict(type="pe_unified.StepHead"), dict(type="pe_unified.PairHead", width=5)
FORMS = {
    "as promised": dict(encoder=ENCODER, pair_head=PAIR, step_head=STEP, exam_head=ATTENTION),
    "noisy-or": dict(
        encoder=ENCODER, pair_head=PAIR, exam_head=dict(type="pe_unified.NoisyOrHead")
    ),
    "as published": dict(encoder=BRANCHES, step_head=STEP, labels_from="exam"),
}
NAMES = {
    "as promised": {"pair_loss_contrastive", "pair_loss_bce", "step_loss_bce", "exam_loss_bce"},
    "noisy-or": {"pair_loss_contrastive", "pair_loss_bce", "exam_loss_bce"},
    "as published": {"step_loss_bce"},
}


def batch(known: bool = True) -> dict:
    """Two exams of three and two slices, one of them positive."""
    torch.manual_seed(0)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    inputs = torch.randn(2, 3, 3, 32, 32)
    inputs[~mask] = torch.nan
    samples = [BaseDataElement(), BaseDataElement()]
    if known:
        samples[0].gt_steps = torch.tensor([0.0, 1.0, torch.nan])
        samples[1].gt_steps = torch.zeros(2)
        for sample, positive in zip(samples, (1.0, 0.0)):
            sample.gt_exam = torch.full((10,), torch.nan)
            sample.gt_exam[0] = positive
    return dict(inputs=inputs, mask=mask, data_samples=samples)


@pytest.mark.parametrize("form", FORMS)
class TestEveryForm:
    def build(self, form):
        return MODELS.build(dict(type="pe_unified.SiameseExam", **FORMS[form]))

    def test_learns(self, form):
        torch.manual_seed(0)
        model = self.build(form).train()
        losses = model(**batch(), mode="loss")
        assert set(losses) == NAMES[form]
        sum(losses.values()).backward()
        learning = {name for name, p in model.named_parameters() if p.requires_grad}
        assert not learning & set(without_gradient(model))
        assert all(model.get_parameter(name).grad.isfinite().all() for name in learning)

    def test_without_labels_nothing_is_learned(self, form):
        model = self.build(form).train()
        total = sum(model(**batch(known=False), mode="loss").values())
        total.backward()
        assert total.item() == 0
        learning = {name for name, p in model.named_parameters() if p.requires_grad}
        assert not learning & set(without_gradient(model))

    def test_predicts(self, form):
        model, given = self.build(form).eval(), batch()
        with torch.no_grad():
            samples = model(**given, mode="predict")
            raw = model(given["inputs"], given["mask"])
        assert [id(sample) for sample in samples] == [id(each) for each in given["data_samples"]]
        for index, (sample, steps) in enumerate(zip(samples, (3, 2))):
            assert ("pred_steps" in sample) == (model.step_head is not None)
            assert ("pred_exam" in sample) == (model.exam_head is not None)
            if "pred_steps" in sample:
                torch.testing.assert_close(sample.pred_steps, raw["step"][index, :steps].sigmoid())
            if "pred_exam" in sample:
                torch.testing.assert_close(sample.pred_exam[:1], raw["exam"][index].sigmoid())
                assert sample.pred_exam[1:].isnan().all()

    def test_a_slice_is_seen_by_itself(self, form):
        """Shared weights, and no word from other slices of the exam or from the padding."""
        model, given = self.build(form).eval(), batch()
        with torch.no_grad():
            features = model(given["inputs"], given["mask"])["features"]
            alone = model.encoder(given["inputs"][0, 1:2])
        torch.testing.assert_close(features[0, 1:2], alone)
        assert (features[1, 2] == 0).all()

    def test_trains_as_mmengine_trains(self, form):
        model = self.build(form)
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.01))
        assert model.train_step(batch(), wrapper)["loss"].isfinite()
        assert len(model.val_step(batch())) == 2


def test_new_samples_where_none_are_given():
    model = SiameseExam(**FORMS["as promised"]).eval()
    given = batch()
    with torch.no_grad():
        samples = model(given["inputs"], given["mask"], mode="predict")
    assert [len(sample.pred_steps) for sample in samples] == [3, 2]


@pytest.mark.parametrize("labels_from", ["steps", "exam"])
def test_what_a_slices_label_is(labels_from):
    """Pairs and steps learn from the slices' own labels, or from their exams'."""
    model = SiameseExam(**{**FORMS["as promised"], "labels_from": labels_from}).eval()
    given = batch()
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


@pytest.mark.parametrize(
    "options, reason",
    [
        (dict(labels_from="chunks"), "labels_from is one of"),
        (dict(step_head=None, exam_head=None), "answers nothing"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        SiameseExam(**{**FORMS["as promised"], **options})


def test_modes():
    model, given = SiameseExam(**FORMS["as published"]), batch()
    with pytest.raises(ValueError, match="needs data_samples"):
        model(given["inputs"], given["mask"], mode="loss")
    with pytest.raises(ValueError, match="mode is"):
        model(**given, mode="losses")


def test_contrastive_loss_by_hand():
    """Unit vectors at 60 and 90 degrees: distances 1 and the root of 2."""
    one = torch.tensor([[2.0, 0.0]] * 4)
    angle = torch.tensor([np.pi / 3, np.pi / 3, np.pi / 2, np.pi / 2])
    other = 5 * torch.stack([angle.cos(), angle.sin()], dim=1).float()
    same = torch.tensor([1.0, 0.0, 1.0, 0.0])
    found = contrastive_loss(one, other, same, margin=1.5)
    golden = [0.5, 0.5 * 0.5**2, 1.0, 0.5 * (1.5 - np.sqrt(2)) ** 2]
    assert found.tolist() == pytest.approx(golden, abs=1e-5)


def test_the_contrastive_gradient_of_twins_is_finite():
    one = torch.ones(2, 3, requires_grad=True)
    contrastive_loss(one, torch.ones(2, 3), torch.tensor([1.0, 0.0])).sum().backward()
    assert one.grad.isfinite().all()


class TestPairHead:
    def test_the_order_of_a_pair_makes_no_difference(self):
        head = PairHead(4, width=5)
        one, other = torch.randn(2, 7, 4)
        torch.testing.assert_close(head(one, other), head(other, one))

    def test_reads_both_their_distance_and_their_product(self):
        head = PairHead(1, width=1)
        head.layers[0].weight.data = torch.tensor([[1.0, 10.0, 100.0, 1000.0]])
        torch.nn.init.zeros_(head.layers[0].bias)
        torch.nn.init.ones_(head.layers[3].weight)
        torch.nn.init.zeros_(head.layers[3].bias)
        found = head(torch.tensor([[2.0]]), torch.tensor([[3.0]])).item()
        assert found == pytest.approx((2 + 30 + 3 + 20) / 2 + 100 + 6000)

    @pytest.mark.parametrize("max_pairs", [None, 4])
    def test_pairs_are_within_and_between_exams(self, max_pairs, monkeypatch):
        head, (features, mask) = PairHead(4, max_pairs=max_pairs), exam_features([3, 2], 4)
        drawn = []
        forward = head.forward
        monkeypatch.setattr(head, "forward", lambda *pair: drawn.append(pair) or forward(*pair))
        targets = torch.tensor([[1.0, torch.nan, 0.0], [0.0, 0.0, 1.0]])
        assert tuple(head.loss(features, mask, targets)) == head.loss_names
        ((one, other),) = drawn
        rows = features[mask & ~targets.isnan()].tolist()
        pairs = {(rows.index(a), rows.index(b)) for a, b in zip(one.tolist(), other.tolist())}
        every = set(itertools.combinations(range(4), 2))
        assert pairs == every if max_pairs is None else pairs < every
        assert len(one) == (max_pairs or 6)

    def test_weights_of_its_losses(self):
        given = (*exam_features([3, 2], 4), torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
        plain, heavy = PairHead(4), PairHead(4, contrastive_weight=2.0, bce_weight=3.0)
        heavy.load_state_dict(plain.state_dict())
        for weight, one, other in zip(
            (2, 3), plain.loss(*given).values(), heavy.loss(*given).values()
        ):
            torch.testing.assert_close(weight * one, other)
