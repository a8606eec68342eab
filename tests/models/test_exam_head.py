import math

import pytest
import torch
import torch.nn.functional as F
from exam_part_testers import by_onnx, exam_features
from part_testers import round_trip, without_gradient

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.models import ExamHead, NoisyOrHead
from pe_unified.models.heads.exam import stretched

LENGTHS = (4, 7, 1)
POSITIVE = ("positive_exam_for_pe",)
BOTH = (dict(type="pe_unified.RSNAExamLoss"), dict(type="pe_unified.ExamBCELoss"))
HEADS = {
    **{
        pool: lambda pool=pool: ExamHead(6, pool=pool, losses=BOTH)
        for pool in ("attention", "attention+max", "max", "mean", "last")
    },
    "positions": lambda: ExamHead(6, positions=5, losses=BOTH),
    "noisy-or": lambda: NoisyOrHead(6, labels=EXAM_TARGETS, losses=BOTH),
}


def _targets(exams: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(exams, 10, generator=generator) < 0.5).float()
    targets[torch.rand(exams, 10, generator=generator) < 0.2] = torch.nan
    return targets


@pytest.mark.parametrize("kind", HEADS)
class TestEveryHead:
    def test_learns_and_predicts(self, kind):
        torch.manual_seed(0)
        head, (features, mask) = HEADS[kind]().train(), exam_features(LENGTHS, 6)
        losses = head.loss(head(features, mask)[0], mask, _targets())
        assert tuple(losses) == head.loss_names == ("loss_rsna", "loss_bce")
        sum(losses.values()).backward()
        assert without_gradient(head) == []
        assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
        with torch.no_grad():
            found = head.probabilities(head.eval()(features, mask)[0])
        assert found.shape == (len(LENGTHS), 10)
        assert ((found > 0) & (found < 1)).all()

    def test_attention_is_a_distribution_over_real_steps(self, kind):
        head, (features, mask) = HEADS[kind]().eval(), exam_features(LENGTHS, 6, padding=2)
        _, attention = head(features, mask)
        if kind in ("max", "mean", "last"):
            assert attention is None
        else:
            assert attention.shape == (3, 10, mask.shape[1])
            torch.testing.assert_close(attention.sum(dim=2), torch.ones(3, 10))
            assert (attention.transpose(1, 2)[~mask] == 0).all()

    def test_padding_changes_nothing(self, kind):
        head, losses = HEADS[kind](), []
        for padding in (0, 3):
            features, mask = exam_features(LENGTHS, 6, padding=padding)
            head.zero_grad()
            losses.append(head.loss(head(features, mask)[0], mask, _targets())["loss_bce"])
            losses[-1].backward()
            losses.append(head.fc.weight.grad.clone())
        torch.testing.assert_close(losses[:2], losses[2:])

    def test_saves_and_loads(self, kind):
        first, second = HEADS[kind]().eval(), HEADS[kind]().eval()
        round_trip(first, second)
        given = exam_features(LENGTHS, 6)
        torch.testing.assert_close(first(*given), second(*given))

    def test_bfloat16_autocast_gives_finite_float32(self, kind):
        head, (features, mask) = HEADS[kind]().train(), exam_features(LENGTHS, 6)
        with torch.autocast("cpu", torch.bfloat16):
            losses = head.loss(head(features, mask)[0], mask, _targets())
        assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())

    @pytest.mark.filterwarnings("ignore")
    def test_onnx_computes_the_same_for_other_lengths(self, kind, tmp_path):
        head, (features, mask) = HEADS[kind]().eval(), exam_features(LENGTHS, 6)
        with torch.no_grad():
            golden = head(features, mask)[0]
        found = by_onnx(head, features, mask, tmp_path)
        torch.testing.assert_close(found, golden, rtol=1e-4, atol=1e-5)

    def test_without_a_known_label_the_loss_is_zero_with_a_gradient(self, kind):
        head, (features, mask) = HEADS[kind]().train(), exam_features(LENGTHS, 6)
        total = sum(
            head.loss(head(features, mask)[0], mask, torch.full((3, 10), torch.nan)).values()
        )
        total.backward()
        assert total.item() == 0
        assert without_gradient(head) == []


def test_pools_by_hand():
    """Features of one channel, a linear layer that hands them through."""
    features, mask = exam_features([3, 2], 1)
    features[0, :, 0] = torch.tensor([1.0, 5.0, 3.0])
    features[1, :2, 0] = torch.tensor([-4.0, -2.0])
    golden = {"max": (5, -2), "mean": (3, -3), "last": (3, -2)}
    for pool, pooled in golden.items():
        head = ExamHead(1, labels=POSITIVE, pool=pool)
        head.fc.weight.data.fill_(1)
        head.fc.bias.data.fill_(0)
        assert head(features, mask)[0].squeeze(1).tolist() == pytest.approx(list(pooled))


def test_attention_by_hand():
    """Scores 2x and -x before the tanh, for two labels."""
    features, mask = exam_features([2, 1], 1)
    features[0, :, 0] = torch.tensor([0.5, -1.0])
    features[1, 0, 0] = 7.0
    head = ExamHead(1, labels=EXAM_TARGETS[:2], pool="attention+max")
    head.score.weight.data = torch.tensor([[2.0], [-1.0]])
    head.fc.weight.data = torch.tensor([[10.0, 1.0], [20.0, 3.0]]).unsqueeze(2)
    head.fc.bias.data = torch.tensor([0.25, -0.25])
    logits, attention = head(features, mask)
    for label, (score, (weight, top), bias) in enumerate(
        [(2, (10, 1), 0.25), (-1, (20, 3), -0.25)]
    ):
        grown = [math.exp(math.tanh(score * x)) for x in (0.5, -1.0)]
        shares = [each / sum(grown) for each in grown]
        assert attention[0, label].tolist() == pytest.approx(shares)
        pooled = 0.5 * shares[0] - shares[1]
        assert logits[0, label].item() == pytest.approx(weight * pooled + top * 0.5 + bias)
        assert logits[1, label].item() == pytest.approx(7 * (weight + top) + bias)


@pytest.mark.parametrize("length", [1, 2, 5, 7, 12])
def test_positions_are_stretched_as_torch_stretches(length):
    vectors = torch.randn(3, 5)
    mask = torch.arange(12) < torch.tensor([[length], [12]])
    found = stretched(vectors, mask)
    golden = F.interpolate(vectors[None], size=length, mode="linear", align_corners=False)[0]
    torch.testing.assert_close(found[0, :, :length], golden)
    if length == 5:
        torch.testing.assert_close(found[0, :, :5], vectors)


def test_positions_say_where_to_look():
    features, mask = exam_features([6, 3], 4)
    head = ExamHead(4, labels=POSITIVE, pool="attention", positions=3)
    torch.nn.init.zeros_(head.score.weight)
    head.position_bias.data = torch.tensor([[0.0, 0.0, 3.0]])
    _, attention = head(features, mask)
    assert attention[0, 0].argmax() == 5
    assert attention[1, 0].argmax() == 2


def test_noisy_or_by_hand():
    features, mask = exam_features([3, 1], 1)
    features[0, :, 0] = torch.logit(torch.tensor([0.1, 0.5, 0.2]))
    features[1, 0, 0] = torch.logit(torch.tensor(0.3))
    head = NoisyOrHead(1)
    torch.nn.init.ones_(head.fc.weight)
    torch.nn.init.zeros_(head.fc.bias)
    logits, shares = head(features, mask)
    assert logits.sigmoid()[:, 0].tolist() == pytest.approx([1 - 0.9 * 0.5 * 0.8, 0.3])
    evidence = [-math.log(0.9), -math.log(0.5), -math.log(0.8)]
    assert shares[0, 0].tolist() == pytest.approx([each / sum(evidence) for each in evidence])


@pytest.mark.parametrize("size", [200.0, -200.0])
def test_noisy_or_is_finite_where_it_is_certain(size):
    head, mask = NoisyOrHead(1), torch.ones(1, 4, dtype=torch.bool)
    torch.nn.init.ones_(head.fc.weight)
    features = torch.full((1, 4, 1), size, requires_grad=True)
    logits, _ = head(features, mask)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert features.grad.isfinite().all()


def test_noisy_or_starts_from_the_prior():
    head, (features, mask) = NoisyOrHead(4, prior=0.02), exam_features([10, 10], 4)
    found = head(torch.zeros_like(features), mask)[0].sigmoid()
    torch.testing.assert_close(found, torch.full((2, 1), 1 - 0.98**10), rtol=1e-3, atol=0)


@pytest.mark.parametrize("build", [ExamHead, NoisyOrHead])
def test_labels_that_it_does_not_answer(build):
    """They teach nothing, and their probability is not a number."""
    labels = ("rv_lv_ratio_gte_1", "positive_exam_for_pe")
    head, (features, mask) = build(6, labels=labels).eval(), exam_features(LENGTHS, 6)
    targets = _targets()
    columns = [EXAM_TARGETS.index(label) for label in labels]
    logits, _ = head(features, mask)
    known = ~targets[:, columns].isnan()
    golden = F.binary_cross_entropy_with_logits(logits[known], targets[:, columns][known])
    torch.testing.assert_close(
        head.loss(head(features, mask)[0], mask, targets)["loss_bce"], golden
    )
    for found, row in zip(head.probabilities(logits), logits.sigmoid()):
        assert torch.equal(found[columns], row)
        assert found.isnan().sum() == 8


def test_the_challenges_loss_weighs_the_steps_too():
    head = ExamHead(6, losses=[dict(type="pe_unified.RSNAExamLoss")])
    features, mask = exam_features(LENGTHS, 6)
    logits, targets = torch.randn(mask.shape, requires_grad=True), mask.float()
    head.loss(head(features, mask)[0], mask, _targets(), logits, targets)["loss_rsna"].backward()
    assert (logits.grad != 0).equal(mask)


@pytest.mark.parametrize(
    "options, reason",
    [
        (dict(pool="median"), "pool is one of"),
        (dict(pool="mean", positions=4), "positions need attention"),
        (dict(labels=("pe",)), r"\['pe'\]; they are positive_exam_for_pe, "),
        (dict(labels=()), "none; they are"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, reason):
    with pytest.raises(ValueError, match=f"labels: {reason}" if "labels" in options else reason):
        ExamHead(4, **options)
