import pytest
import torch
import torch.nn.functional as F
from part_testers import LEVELS, HeadTester, levels_for

from pe_unified.models import PESegHead
from pe_unified.models.losses import binary_cross_entropy, pooled_dice_loss
from pe_unified.testing import tiny_batch

SMALL = dict(channels=(12, 8, 8, 6), skip_channels=6)


class TestDiceAndCrossEntropy(HeadTester):
    task, prediction_fields = "seg", ("seg_prob", "pred_sem_seg")

    def build(self, **options):
        return PESegHead(**LEVELS, decoder=SMALL, **options)


class TestFocalWithDetail(TestDiceAndCrossEntropy):
    def build(self, **options):
        decoder = dict(SMALL, detail_channels=4, channels=(12, 8, 8, 6, 4), out_stride=1)
        return PESegHead(**LEVELS, losses=[dict(type="PixelFocalLoss")], decoder=decoder)


def test_losses_are_taken_at_full_size_over_all_pixels():
    losses = [
        dict(type="PooledDiceLoss", loss_weight=2.0),
        dict(type="PixelCrossEntropyLoss", loss_weight=0.5),
        dict(type="torch.nn.BCEWithLogitsLoss", loss_name="loss_torch"),
    ]
    head = PESegHead(**LEVELS, decoder=SMALL, losses=losses).eval()
    levels, image = levels_for((64, 64)), torch.randn(2, 3, 64, 64)
    samples = tiny_batch(labels=("seg",))["data_samples"]
    logits = F.interpolate(head(levels, image), size=(64, 64), mode="bilinear")
    target = torch.stack([sample.gt_sem_seg.data for sample in samples])
    losses = head.loss(levels, samples, image)
    torch.testing.assert_close(losses["loss_dice"], 2 * pooled_dice_loss(logits, target))
    torch.testing.assert_close(losses["loss_bce"], 0.5 * binary_cross_entropy(logits, target))
    torch.testing.assert_close(losses["loss_torch"], 2 * losses["loss_bce"])


def test_padding_counts_as_background():
    head = PESegHead(**LEVELS, decoder=SMALL).eval()
    levels, image = levels_for((64, 64)), torch.randn(2, 3, 64, 64)
    samples = tiny_batch(size=(50, 60), labels=("seg",))["data_samples"]
    whole = tiny_batch(size=(50, 60), labels=("seg",))["data_samples"]
    for sample in whole:
        sample.set_gt_sem_seg(F.pad(sample.gt_sem_seg.data[0], (0, 4, 0, 14)))
    torch.testing.assert_close(
        head.loss(levels, samples, image)["loss_bce"], head.loss(levels, whole, image)["loss_bce"]
    )


def test_an_untrained_head_believes_in_few_pixels():
    head = PESegHead(**LEVELS, decoder=SMALL, prior=0.02)
    head.init_weights()
    with torch.no_grad():
        share = head.eval()(levels_for((64, 64))).sigmoid().mean()
    assert 0.007 < share.item() < 0.06
    # With weights near 0 some seeds never learn.
    assert head.conv_seg.weight.std() > 0.1


def test_threshold_divides_the_probabilities():
    head = PESegHead(**LEVELS, decoder=SMALL).eval()
    samples = tiny_batch(labels=())["data_samples"]
    for sample in samples:
        sample.set_metainfo({"pad_shape": (64, 64)})
    given = levels_for((64, 64)), samples, torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        head.predict(*given)
        head.threshold = samples[0].seg_prob.data.quantile(0.25).item()
        head.predict(*given)
    for sample in samples:
        assert sample.pred_sem_seg.data.dtype == torch.uint8
        assert torch.equal(sample.pred_sem_seg.data == 1, sample.seg_prob.data > head.threshold)
    assert samples[0].pred_sem_seg.data.float().mean() == pytest.approx(0.75, abs=0.01)


def test_a_mask_larger_than_the_input_is_refused():
    head = PESegHead(**LEVELS, decoder=SMALL)
    samples = tiny_batch(size=(80, 64), labels=("seg",))["data_samples"]
    with pytest.raises(ValueError, match="80 x 64 pixels for an input of 64 x 64"):
        head.loss(levels_for((64, 64)), samples, torch.randn(2, 3, 64, 64))


def test_losses_are_told_apart():
    with pytest.raises(ValueError, match="nothing to learn"):
        PESegHead(**LEVELS, decoder=SMALL, losses=[])
    twice = [dict(type="PooledDiceLoss"), dict(type="PooledDiceLoss", smooth=0.1)]
    with pytest.raises(ValueError, match="two are called loss_dice"):
        PESegHead(**LEVELS, decoder=SMALL, losses=twice)
    with pytest.raises(ValueError, match="begins with loss_, got 'sharp'"):
        PESegHead(**LEVELS, decoder=SMALL, losses=[dict(twice[0], loss_name="sharp")])
    twice[1]["loss_name"] = "loss_sharp_dice"
    tversky = dict(type="monai.losses.TverskyLoss", sigmoid=True)
    head = PESegHead(**LEVELS, decoder=SMALL, losses=[*twice, tversky])
    assert head.loss_names == ("loss_dice", "loss_sharp_dice", "loss_tversky")


NESTED = dict(type="UNetPlusPlusDecoder", channels=(6, 5, 4))


class TestDeepSupervision(TestDiceAndCrossEntropy):
    def build(self, **options):
        return PESegHead(**LEVELS, decoder=NESTED, side_weights=(0.5, 0.25), **options)


def test_side_outputs_have_losses_of_their_own():
    head = PESegHead(**LEVELS, decoder=NESTED, side_weights=(0.5, 0.25)).eval()
    levels, image = levels_for((64, 64)), torch.randn(2, 3, 64, 64)
    samples = tiny_batch(labels=("seg",))["data_samples"]
    target = torch.stack([sample.gt_sem_seg.data for sample in samples])
    losses = head.loss(levels, samples, image)
    _, sides = head.decoder.with_sides(levels)
    full = [F.interpolate(side, size=(64, 64), mode="bilinear") for side in sides]
    one, two = (binary_cross_entropy(each, target) for each in full)
    torch.testing.assert_close(losses["loss_bce_sides"], 0.5 * one + 0.25 * two)
    plain = PESegHead(**LEVELS, decoder={**NESTED, "deep_supervision": False}).eval()
    plain.load_state_dict(head.state_dict(), strict=False)
    assert plain.loss_names == ("loss_dice", "loss_bce")
    expected = plain.loss(levels, samples, image)
    torch.testing.assert_close(losses["loss_dice"], expected["loss_dice"])


def test_side_outputs_start_at_the_share_of_emboli():
    torch.manual_seed(0)
    head = PESegHead(**LEVELS, decoder=NESTED)
    head.init_weights()
    with torch.no_grad():
        _, sides = head.eval().decoder.with_sides(levels_for((64, 64)))
    assert all(0.003 < side.sigmoid().mean() < 0.1 for side in sides)


def test_side_outputs_cost_nothing_where_nothing_is_learned():
    head = PESegHead(**LEVELS, decoder=NESTED).eval()
    for logits in head.decoder.side_logits:
        logits.register_forward_hook(lambda *_: pytest.fail("a side output was computed"))
    head(levels_for((64, 64)), torch.randn(2, 3, 64, 64))


def test_every_side_output_has_a_weight():
    with pytest.raises(ValueError, match="side_weights: 3 for a decoder with 2 side outputs"):
        PESegHead(**LEVELS, decoder=NESTED, side_weights=(1.0, 1.0, 1.0))
    assert PESegHead(**LEVELS, decoder=SMALL, side_weights=(1.0, 1.0)).side_weights == ()
