import pytest
import torch
from part_testers import LEVELS, DecoderTester, levels_for

from pe_unified.models.decoders.unet import UNetDecoder

WIDTHS = {1: (12, 10, 8, 6, 4), 2: (12, 10, 8, 6), 4: (12, 10, 8)}


class TestUNet(DecoderTester):
    def build(self):
        return UNetDecoder(**LEVELS, channels=WIDTHS[2], detail_channels=3)


class TestUNetThatJoinsWholeLevels(DecoderTester):
    def build(self):
        return UNetDecoder(**LEVELS, channels=WIDTHS[1], out_stride=1, skip_channels=None)


@pytest.mark.parametrize("skip_channels", [None, 6])
@pytest.mark.parametrize("out_stride, detail_channels", [(1, 0), (1, 3), (2, 0), (2, 3), (4, 0)])
def test_gives_the_stride_it_promises(out_stride, skip_channels, detail_channels):
    decoder = UNetDecoder(
        **LEVELS,
        channels=WIDTHS[out_stride],
        out_stride=out_stride,
        skip_channels=skip_channels,
        detail_channels=detail_channels,
    )
    out = decoder(levels_for((64, 96)), torch.randn(2, 3, 64, 96))
    assert out.shape == (2, WIDTHS[out_stride][-1], 64 // out_stride, 96 // out_stride)


def test_odd_sizes_meet_with_the_image():
    decoder = UNetDecoder(**LEVELS, channels=WIDTHS[2], detail_channels=3)
    out = decoder(levels_for((97, 131)), torch.randn(2, 3, 97, 131))
    assert out.shape[-2:] == (49, 66)


def test_two_levels_are_enough():
    decoder = UNetDecoder((8, 12), (4, 8), channels=(6, 4), skip_channels=4)
    assert decoder(levels_for((64, 64))[:2]).shape == (2, 4, 32, 32)


@pytest.mark.parametrize(
    "wrong, reason",
    [
        (dict(channels=(8, 8)), "make 4 blocks; channels has 2"),
        (dict(channels=(8,) * 4, out_stride=3), "out_stride 3"),
        (dict(channels=(8,) * 4, out_stride=8), "out_stride 8"),
        (dict(channels=(8,) * 3, out_stride=4, detail_channels=2), "finer than the finest"),
    ],
)
def test_refuses(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        UNetDecoder(**LEVELS, **wrong)


def test_detail_needs_the_image():
    decoder = UNetDecoder(**LEVELS, channels=WIDTHS[2], detail_channels=3)
    with pytest.raises(ValueError, match="needs the image"):
        decoder(levels_for((64, 64)))
