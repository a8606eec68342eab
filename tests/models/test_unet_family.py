"""Encoders and decoders of the UNet family, each as its config builds it."""

import pytest
import torch
from part_testers import (
    LEVELS,
    BackboneTester,
    DecoderTester,
    SegmentationNetTester,
    SeldomExported,
)
from tiny_run import small_settings
from torch import nn

from pe_unified.engine import load_config
from pe_unified.models import (
    AttentionUNetDecoder,
    CentredUNetDecoder,
    UNetDecoder,
    UNetEncoder,
    UNetPlusPlusDecoder,
)
from pe_unified.models.conv_blocks import RecurrentConv, RecurrentResidualBlock
from pe_unified.models.decoders.attention_unet import AttentionGate
from pe_unified.models.weights import reuse_weights
from pe_unified.registry import MODELS

NARROW = dict(model=dict(backbone=dict(base_channels=4)))


class TestEncoder(BackboneTester):
    dropping = {}

    def build(self, **options):
        return UNetEncoder(base_channels=4, poolings=3, **options)

    @pytest.mark.parametrize(
        "wrong, reason",
        [
            (dict(frozen_stages=5), "frozen_stages is -1"),
            (dict(preset="large"), "preset is one of seed, paper"),
            (dict(block="triple"), "block is one of double, recurrent"),
        ],
    )
    def test_refuses(self, wrong, reason):
        with pytest.raises(ValueError, match=reason):
            self.build(**wrong)


class TestRecurrentEncoder(TestEncoder):
    def build(self, **options):
        return super().build(**{"block": "recurrent", **options})


class TestPublishedDecoder(DecoderTester):
    options = dict(channels=None, skip_channels=None, out_stride=4, upsample="bilinear")

    def build(self):
        return UNetDecoder(**LEVELS, **self.options)


class TestRecurrentDecoder(TestPublishedDecoder):
    def build(self):
        return UNetDecoder(**LEVELS, **self.options, block="recurrent")


class TestAttentionDecoder(TestPublishedDecoder):
    def build(self):
        return AttentionUNetDecoder(**LEVELS, **self.options)


class TestAttentionDecoderWithTheImage(DecoderTester):
    def build(self):
        return AttentionUNetDecoder(
            **LEVELS, channels=(6, 6, 4, 4), skip_channels=6, detail_channels=3
        )


class TestUNetPlusPlusDecoder(DecoderTester):
    def build(self):
        return UNetPlusPlusDecoder(**LEVELS, channels=(6, 5, 4), deep_supervision=False)


class TestCentredDecoder(DecoderTester):
    def build(self):
        return CentredUNetDecoder(**LEVELS)


class TestUNet(SegmentationNetTester):
    config, small, millions = "unets/unet", NARROW, "7.85"


class TestAttentionUNet(SegmentationNetTester):
    config, small, millions = "unets/attention_unet", NARROW, "8.20"


class TestR2UNet(SegmentationNetTester):
    config, small, millions = "unets/r2unet", NARROW, "8.30"


class TestAttentionR2UNet(SeldomExported, SegmentationNetTester):
    config, small, millions = "unets/attention_r2unet", NARROW, "8.65"


class TestTinyUNet3(SeldomExported, SegmentationNetTester):
    config, small, millions = "unets/tiny_unet3", NARROW, "1.95"


class TestTinyUNet2(SeldomExported, SegmentationNetTester):
    config, small, millions = "unets/tiny_unet2", NARROW, "0.47"


class TestTinyUNet1(SeldomExported, SegmentationNetTester):
    config, small, millions = "unets/tiny_unet1", NARROW, "0.10"


class TestTinyAttentionR2UNet(SeldomExported, SegmentationNetTester):
    config, small, millions = "unets/tiny_attention_r2unet", NARROW, "2.15"


class TestAttentionUNetOnR50(SeldomExported, SegmentationNetTester):
    """A decoder on the shared backbone."""

    config, widens, millions = "unets/attention_unet_r50", False, "24.7"
    device = "cpu"  # stochastic depth computes rates
    small = dict(model=dict(backbone=dict(depth=18, base_channels=8)))


class TestUNetPlusPlusOnR50(TestAttentionUNetOnR50):
    config, millions, sides = "unets/unet_plus_plus_r50", "29.0", 3


class TestUNetPlusPlus(SegmentationNetTester):
    config, small, millions, sides = "unets/unet_plus_plus", NARROW, "9.16", 3
    widens = False  # the paper has 32 channels at full size


class TestUNetResNet34(SegmentationNetTester):
    config, small, millions = "unets/unet_resnet34", NARROW, "47.6"
    widens, device = False, "cpu"  # mmpretrain's ResNet reads numbers that meta has not


def test_a_recurrent_convolution_by_hand():
    """One weight w and no bias: with ReLU, w x, then w (x + w x), then w (x + w (x + w x))."""
    layer = RecurrentConv(1, dict(type="BN"), steps=2).eval()
    with torch.no_grad():
        layer.conv.weight.zero_()
        layer.conv.weight[0, 0, 1, 1] = 0.5
        layer.conv.bias.zero_()
    x = torch.tensor([2.0, -2.0]).view(1, 1, 1, 2)
    expected = torch.tensor([0.5 * (2 + 0.5 * (2 + 0.5 * 2)), 0.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)
    block = RecurrentResidualBlock(1, 1).eval()
    block.body[0] = block.body[1] = layer
    with torch.no_grad():
        block.project.weight.fill_(1)
        block.project.bias.zero_()
    torch.testing.assert_close(block(x), x + layer(layer(x)))


@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_a_gate_weighs_what_the_coarse_level_asks_for(size):
    gate = AttentionGate(4, 6).eval()
    nn.init.eye_(gate.output[0].weight.data[:, :, 0, 0])
    nn.init.zeros_(gate.output[0].bias)
    level, coarse = torch.randn(2, 4, *size), torch.zeros(2, 6, -(-size[0] // 2), -(-size[1] // 2))
    nn.init.zeros_(gate.of_level.weight)
    nn.init.zeros_(gate.of_coarse.bias)
    nn.init.ones_(gate.of_coarse.weight)
    nn.init.ones_(gate.weight.weight)
    nn.init.constant_(gate.weight.bias, -20.0)
    with torch.no_grad():
        assert gate(level, coarse).abs().max() < 1e-4  # shut
        coarse[..., : coarse.shape[-1] // 2] = 10.0
        opened = gate(level, coarse)
    kept = opened / level
    assert (kept[..., 0] > 0.99).all() and (kept[..., -1] < 1e-4).all()


@pytest.mark.parametrize("kind", [UNetDecoder, AttentionUNetDecoder])
def test_blocks_are_as_wide_as_the_levels_that_they_join(kind):
    decoder = kind(**LEVELS, channels=None, skip_channels=None, out_stride=4)
    assert [block[0].conv.out_channels for block in decoder.blocks] == [16, 12, 8]
    assert decoder.joins == [(16, 24), (12, 16), (8, 12)]
    with pytest.raises(ValueError, match="upsample is 'nearest' or 'bilinear'"):
        kind(**LEVELS, upsample="cubic")


def test_a_side_output_is_that_of_a_net_of_fewer_levels():
    decoder = UNetPlusPlusDecoder(**LEVELS).eval()
    assert decoder.sides == 2
    for count in range(2, 4):
        levels = [torch.randn(1, width, 32 // s, 32 // s) for width, s in zip(*LEVELS.values())]
        changed = [*levels[:count], *(torch.randn_like(each) for each in levels[count:])]
        with torch.no_grad():
            (_, one), (_, other) = decoder.with_sides(levels), decoder.with_sides(changed)
        same = [torch.equal(a, b) for a, b in zip(one, other)]
        assert same == [number < count - 1 for number in range(2)]


def test_nested_nodes_see_all_before_them_and_the_one_below():
    decoder = UNetPlusPlusDecoder((3, 5, 7), (1, 2, 4), channels=(6, 4))
    given = [[node[0].conv.in_channels for node in nodes] for nodes in decoder.nodes]
    assert given == [[3 + 5, 5 + 7], [3 + 4 + 6]]
    with pytest.raises(ValueError, match="need 2 channels; got 1"):
        UNetPlusPlusDecoder((3, 5, 7), (1, 2, 4), channels=(6,))


def test_any_decoder_takes_the_backbone_of_an_earlier_step(tmp_path):
    """As a recipe's step does: the config of masks with one line changed."""
    first = MODELS.build(load_config("pe_cls_r50", settings=[small_settings("cls")]).model)
    torch.save({"state_dict": first.state_dict()}, tmp_path / "s1_cls.pth")
    line = {"model.seg_head.decoder.type": "AttentionUNetDecoder"}
    cfg = load_config("pe_seg_r50", line, settings=[small_settings("seg")])
    model = MODELS.build(cfg.model)
    assert type(model.head("seg").decoder) is AttentionUNetDecoder
    (report,) = reuse_weights(model, {"backbone": ("s1_cls", tmp_path / "s1_cls.pth")})
    assert report.tensors == report.total == len(first.backbone.state_dict())
    for name, value in first.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value), name


def test_layers_of_the_encoder_are_its_levels():
    backbone = UNetEncoder(base_channels=4, poolings=2)
    depths = {
        backbone.get_layer_depth(f"backbone.{n}", "backbone.")
        for n, _ in backbone.named_parameters()
    }
    assert depths == {(0, 4), (1, 4), (2, 4)}
    assert backbone.get_layer_depth("seg_head.conv_seg.weight", "backbone.") == (3, 4)
