import pytest
import torch
from mmpretrain.models import GlobalAveragePooling, LinearClsHead
from part_testers import LEVELS, HeadTester, levels_for

from pe_unified.models import PEClsHead
from pe_unified.testing import tiny_batch

FOCAL = [dict(type="pe_unified.SliceFocalLoss", gamma=1.0)]


class TestAverage(HeadTester):
    task, prediction_fields = "cls", ("pred_score",)

    def build(self, **options):
        return PEClsHead(**LEVELS, **options)


class TestAverageAndMaximumOfTwoLevels(TestAverage):
    def build(self, **options):
        return PEClsHead(**LEVELS, pool="avg+max", levels=(-2, -1), losses=FOCAL, dropout=0.2)


class TestEvidence(TestAverage):
    def build(self, **options):
        return PEClsHead(
            **LEVELS, pool="avg+max", normalise=True, evidence_channels=8, mask_weight=0.5
        )


def test_average_of_the_last_level_is_mmpretrains_classifier():
    head = PEClsHead(**LEVELS, pool="avg").eval()
    stock = LinearClsHead(num_classes=2, in_channels=24)
    stock.fc.load_state_dict(head.fc.state_dict())
    levels = levels_for((97, 131))
    torch.testing.assert_close(head(levels), stock(GlobalAveragePooling()(tuple(levels))))


def test_one_bright_pixel_moves_the_maximum_more_than_the_average():
    levels = [torch.zeros(1, width, 16, 16) for width in LEVELS["in_channels"]]
    bright = [level.clone() for level in levels]
    bright[-1][0, :, 3, 5] = 10.0
    moved = {}
    for pool in ("avg", "avg+max"):
        head = PEClsHead(**LEVELS, pool=pool)
        torch.nn.init.constant_(head.fc.weight, 1.0)
        moved[pool] = (head(bright) - head(levels)).abs().max().item()
    assert moved["avg"] == pytest.approx(24 * 10 / 256)
    assert moved["avg+max"] == pytest.approx(24 * 10 / 256 + 24 * 10)


def test_normalised_pooled_vectors_have_mean_0_and_length_1_whatever_the_scale():
    head = PEClsHead(**LEVELS, pool="avg+max", levels=(-2, -1), normalise=True).eval()
    seen = []
    head.fc.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    levels = levels_for((64, 64))
    logits = head(levels)
    wide, deep = LEVELS["in_channels"][-2:]
    for vector in seen[0].split([wide, wide, deep, deep], dim=1):
        torch.testing.assert_close(vector.mean(1), torch.zeros(len(vector)), atol=1e-6, rtol=0)
        torch.testing.assert_close(vector.norm(dim=1), torch.ones(len(vector)), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        head([100 * level for level in levels]), logits, atol=1e-3, rtol=1e-3
    )


def test_scores_are_probabilities_with_embolism_second():
    head = PEClsHead(**LEVELS).eval()
    head.fc.bias.data = torch.tensor([0.0, 3.0])
    samples = tiny_batch(labels=())["data_samples"]
    with torch.no_grad():
        head.predict([torch.zeros_like(level) for level in levels_for((64, 64))], samples)
    for sample in samples:
        assert sample.pred_score.sum().item() == pytest.approx(1)
        assert sample.pred_score[1].item() == pytest.approx(torch.tensor(3.0).sigmoid().item())


def test_class_weight_and_smoothing_reach_the_loss():
    levels, samples = levels_for((64, 64)), tiny_batch(labels=("cls",))["data_samples"]
    loss = dict(type="SliceCrossEntropyLoss", class_weight=(1.0, 4.0), label_smoothing=0.1)
    head = PEClsHead(**LEVELS, losses=[loss]).eval()
    logits = head(levels)
    golden = torch.nn.functional.cross_entropy(
        logits, torch.tensor([1, 0]), torch.tensor([1.0, 4.0]), label_smoothing=0.1
    )
    torch.testing.assert_close(head.loss(levels, samples)["loss_ce"], golden)


def test_refuses():
    with pytest.raises(ValueError, match="pool is one of"):
        PEClsHead(**LEVELS, pool="max")


def test_masks_teach_the_evidence_where_they_are_known():
    levels = levels_for((64, 64))
    batch = tiny_batch(labels=("cls", "seg"))
    samples, image = batch["data_samples"], torch.stack(batch["inputs"])
    torch.manual_seed(0)
    head = PEClsHead(**LEVELS, evidence_channels=8, mask_weight=1.0)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    first = head.loss(levels, samples, image)["loss_evidence"].item()
    for _ in range(60):
        optimizer.zero_grad()
        sum(head.loss(levels, samples, image).values()).backward()
        optimizer.step()
    assert head.loss(levels, samples, image)["loss_evidence"].item() < 0.5 * first
    for sample in samples:
        del sample.gt_sem_seg
    assert head.loss(levels, samples, image)["loss_evidence"].item() == 0


def test_a_cell_with_one_pixel_of_an_embolus_is_as_positive_as_a_full_one():
    levels, image = levels_for((64, 64)), torch.zeros(2, 3, 64, 64)
    samples = tiny_batch(labels=("cls", "seg"))["data_samples"]
    torch.manual_seed(0)
    head = PEClsHead(**LEVELS, evidence_channels=8, mask_weight=1.0)
    losses = []
    for side in (1, 4):  # pixels; a cell has 4 x 4
        mask = torch.zeros(64, 64, dtype=torch.uint8)
        mask[8 : 8 + side, 20 : 20 + side] = 1
        for sample in samples:
            sample.set_gt_sem_seg(mask)
        losses.append(head.loss(levels, samples, image)["loss_evidence"].item())
    assert losses[0] == losses[1]


def test_slice_labels_alone_make_no_use_of_masks():
    levels = levels_for((64, 64))
    batch = tiny_batch(labels=("cls", "seg"))
    head = PEClsHead(**LEVELS, evidence_channels=8)
    assert set(head.loss(levels, batch["data_samples"], batch["inputs"])) == {"loss_ce"}
    with pytest.raises(ValueError, match="evidence_channels"):
        PEClsHead(**LEVELS, mask_weight=1.0)
