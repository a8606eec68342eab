import re

import pytest
import timm
import torch
from part_testers import BackboneTester

from pe_unified.errors import CheckpointError
from pe_unified.models import PEResNet, PESwin, PETimm

SMALL_SWIN = dict(embed_dims=16, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4), window_size=4)


class TestResNet18(BackboneTester):
    def build(self, **options):
        return PEResNet(**{**dict(depth=18, base_channels=8), **options})


class TestResNet26DeepStem(BackboneTester):
    def build(self, **options):
        return PEResNet(
            **{**dict(depth=26, base_channels=8, deep_stem=True, avg_down=True), **options}
        )


class TestSwin(BackboneTester):
    def build(self, **options):
        return PESwin(**{**SMALL_SWIN, "drop_path_rate": 0.0, **options})

    def test_a_map_within_one_window_is_seen_whole(self):
        """mmpretrain shifts such a map and cuts it into regions; the original does not."""
        backbone = self.build().eval()
        image = torch.randn(1, 3, 128, 128)  # 4 x 4 patches at the last stage: one window
        changed = image.clone()
        changed[..., :32, :32] += 1
        with torch.no_grad():
            stage = backbone.stages[3]
            x = torch.randn(1, 16, 128)
            y = x.clone()
            y[:, 0] += 1
            difference = (stage(x, (4, 4))[0] - stage(y, (4, 4))[0]).abs().amax(dim=-1)
        assert (difference > 0).all(), "every patch sees the changed one"

    def test_four_stages(self):
        with pytest.raises(ValueError, match="four stages"):
            self.build(depths=(1, 1, 1))


class TestConvNeXtOfTimm(BackboneTester):
    def build(self, **options):
        return PETimm("test_convnext", **options)

    def test_starts_from_a_file(self, tmp_path):
        whole = timm.create_model("test_convnext")
        torch.save(whole.state_dict(), tmp_path / "weights.pth")
        backbone = self.build(pretrained=str(tmp_path / "weights.pth"))
        backbone.init_weights()
        for name, value in backbone.net.state_dict().items():
            stored = whole.state_dict()[re.sub(r"^(stem|stages)_", r"\1.", name)]
            assert torch.equal(value, stored)
        with pytest.raises(CheckpointError, match="nowhere"):
            self.build(pretrained=str(tmp_path / "nowhere.pth")).init_weights()


class TestResNetOfTimm(BackboneTester):
    def build(self, **options):
        return PETimm("test_resnet", **options)


class TestEfficientNetOfTimm(BackboneTester):
    def build(self, **options):
        return PETimm("test_efficientnet", **options)


def test_a_config_names_no_files_of_timm():
    with pytest.raises(ValueError, match="checkpoint_path: use pretrained"):
        PETimm("test_resnet", checkpoint_path="x.pth")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("convnext_tinny", "near: convnext"),
        ("test_vit", "strides"),
        ("swin_tiny_patch4_window7_224", "channels come last"),
    ],
)
def test_networks_that_timm_does_not_give(name, reason):
    with pytest.raises(ValueError, match=reason):
        PETimm(name)


@pytest.mark.parametrize(
    "depth, channels",
    [(18, (64, 128, 256, 512)), (34, (64, 128, 256, 512)), (50, (256, 512, 1024, 2048))],
)
def test_published_widths(depth, channels):
    assert PEResNet(depth=depth).feature_info.channels == channels


def test_strides_follow_the_stages():
    backbone = PEResNet(18, base_channels=8, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)).eval()
    assert backbone.feature_info.strides == (4, 8, 8, 8)
    with torch.no_grad():
        levels = backbone(torch.randn(1, 3, 64, 64))
    assert [level.shape[-1] for level in levels] == [16, 8, 8, 8]


def test_norm_eval_stills_the_statistics_only():
    backbone = PEResNet(18, base_channels=8, norm_eval=True).eval().train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    sum(level.mean() for level in backbone(torch.randn(2, 3, 64, 64))).backward()
    for name, value in backbone.named_buffers():
        assert torch.equal(value, before[name]), name
    assert backbone.bn1.weight.grad is not None


def test_a_config_is_left_as_it_was():
    norm = dict(type="BN", requires_grad=True)
    PEResNet(18, base_channels=8, norm_cfg=norm)
    assert norm == dict(type="BN", requires_grad=True)


@pytest.mark.parametrize("name, value", [("style", "caffe"), ("num_stages", 3)])
def test_stock_keys_of_another_network_are_refused(name, value):
    with pytest.raises(ValueError, match=f"always has {name}"):
        PEResNet(18, **{name: value})


def test_layers_are_counted_by_block():
    backbone = PEResNet(depth=26, base_channels=8)
    depth = {name: backbone.get_layer_depth(name) for name, _ in backbone.named_parameters()}
    assert depth["conv1.weight"] == (0, 10)
    assert depth["layer1.0.conv1.weight"] == (1, 10)
    assert depth["layer2.1.bn2.bias"] == (4, 10)
    assert depth["layer4.1.conv3.weight"] == (8, 10)
    assert backbone.get_layer_depth("cls_head.fc.weight", "backbone.") == (9, 10)
