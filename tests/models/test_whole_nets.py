"""Nets without a backbone, our own and those of other libraries."""

import pytest
import torch
from mmengine.registry import DefaultScope
from part_testers import SegmentationNetTester, SeldomExported, only_zeros, without_zeros

from pe_unified.engine import load_config
from pe_unified.engine.config import ConfigError
from pe_unified.engine.layer_decay import LayerDecayConstructor
from pe_unified.engine.part_errors import building
from pe_unified.errors import CheckpointError
from pe_unified.inference.model import load_model
from pe_unified.models import MONAINet, NFNPlus, NoBackbone, SMPNet, U2Net, XNet
from pe_unified.models.cam import CamError, level_of
from pe_unified.models.nets.u2net import ResidualUBlock
from pe_unified.registry import MODELS


def of_decoder(**options):
    return dict(model=dict(seg_head=dict(decoder=options)))


class TestXNet(SegmentationNetTester):
    config, small, millions = "unets/xnet", of_decoder(base_channels=4), "3.11"


class TestNFNPlus(SegmentationNetTester):
    config, small, millions, sides = "unets/nfn_plus", of_decoder(base_channels=4), "1.14", 1


class TestU2Net(SegmentationNetTester):
    config, small, millions, sides = "unets/u2net", of_decoder(base_channels=8), "44.0", 6
    widens = False  # both presets are the paper's


class TestU2NetP(SeldomExported, TestU2Net):
    config, millions = "unets/u2netp", "1.13"


class TestNetOfSMP(SegmentationNetTester):
    config, widens = "unets/smp_unet_plus_plus", False
    small = of_decoder(encoder="tu-test_resnet", decoder_channels=(8, 8, 8, 4, 4))


class TestNetOfMONAI(SegmentationNetTester):
    config, widens = "unets/monai_attention_unet", False
    small = of_decoder(channels=(4, 8, 8), strides=(2, 2), out_channels=4)


def learns(net):
    without_zeros(net.train())
    image = torch.randn(2, 3, 256, 256)
    found = net((), image)
    assert found.shape[:2] == (2, net.out_channels)
    found.square().mean().backward()
    assert only_zeros(net) == []


SMALL_OF_SMP = dict(encoder="tu-test_resnet")


@pytest.mark.parametrize(
    "arch",
    [
        pytest.param("Unet", marks=pytest.mark.slow),
        pytest.param("MAnet", marks=pytest.mark.slow),
        "Linknet",
        pytest.param("FPN", marks=pytest.mark.slow),
        pytest.param("DeepLabV3", marks=pytest.mark.slow),
        pytest.param("DeepLabV3Plus", marks=pytest.mark.slow),
        "PAN",
        "PSPNet",
        pytest.param("UPerNet", marks=pytest.mark.slow),
        pytest.param("Segformer", marks=pytest.mark.slow),
    ],
)
def test_nets_of_smp_learn(arch):
    torch.manual_seed(0)  # with some weights a ReLU is never above zero
    learns(SMPNet(arch, **SMALL_OF_SMP))


DYNAMIC = dict(kernel_size=[3, 3, 3], strides=[1, 2, 2], upsample_kernel_size=[2, 2])


@pytest.mark.parametrize(
    "arch, options",
    [
        ("UNet", dict(channels=(4, 8, 16), strides=(2, 2), num_res_units=1)),
        ("BasicUNet", dict(features=(4, 4, 8, 8, 16, 4))),
        ("BasicUNetPlusPlus", dict(features=(4, 4, 8, 8, 16, 4))),
        ("DynUNet", dict(**DYNAMIC, filters=[4, 8, 16])),
        ("SegResNet", dict(init_filters=8)),
        ("SegResNetDS", dict(init_filters=8, blocks_down=(1, 1, 1))),
        ("FlexibleUNet", dict(backbone="resnet10", decoder_channels=(16, 8, 8, 4, 4))),
    ],
)
def test_nets_of_monai_learn(arch, options):
    learns(MONAINet(arch, out_channels=4, **options))


@pytest.mark.parametrize(
    "build, reason",
    [
        (lambda: SMPNet("UNet"), "has no UNet; it has"),
        (lambda: SMPNet(encoder="resnet33"), "has no resnet33"),
        (lambda: SMPNet(encoder="tu-hf-hub:someone/something"), "timm has no"),
        (lambda: SMPNet(encoder="tu-test_resnet", checkpoint_path="x"), "weights as pretrained"),
        (lambda: SMPNet(encoder_weights="imagenet"), "say pretrained='smp://imagenet'"),
        (lambda: SMPNet(aux_params=dict(classes=1)), "no aux_params"),
        (lambda: MONAINet("save_state"), "MONAI has no net save_state"),
        (lambda: MONAINet("EfficientNetBN"), "takes no out_channels"),
        (lambda: MONAINet("BasicUNet", pretrained=True), "no weights of BasicUNet"),
        (lambda: MONAINet("BasicUNetPlusPlus", deep_supervision=True), "no side outputs"),
        (lambda: MONAINet("SegResNetDS", dsdepth=2), "no side outputs"),
    ],
)
def test_adapters_refuse(build, reason):
    with pytest.raises(ValueError, match=reason):
        build()


def test_an_encoder_of_smp_starts_from_a_file(tmp_path):
    torch.manual_seed(0)
    other = SMPNet(**SMALL_OF_SMP)
    torch.save(other.net.encoder.state_dict(), tmp_path / "encoder.pth")
    net = SMPNet(**SMALL_OF_SMP, pretrained=str(tmp_path / "encoder.pth"))
    before = {name: value.clone() for name, value in net.net.decoder.state_dict().items()}
    net.init_weights()
    for name, value in net.net.encoder.state_dict().items():
        assert torch.equal(value, other.net.encoder.state_dict()[name])
    assert all(torch.equal(value, before[n]) for n, value in net.net.decoder.state_dict().items())
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    for name in ("other.pth", "nowhere.pth"):
        with pytest.raises(CheckpointError, match=name):
            SMPNet(**SMALL_OF_SMP, pretrained=str(tmp_path / name)).init_weights()


@pytest.mark.parametrize("library", ["smp", "monai"])
def test_weights_that_cannot_be_downloaded_say_so(library, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    if library == "smp":
        net = SMPNet(encoder="resnet18", pretrained="smp://imagenet")
        monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", refuse)
    else:
        net = MONAINet("FlexibleUNet", backbone="efficientnet-b0", pretrained=True)
        monkeypatch.setattr("torch.utils.model_zoo.load_url", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be loaded \(.*no network"):
        net.init_weights()


def test_a_strangers_file_downloads_nothing(tmp_path, monkeypatch):
    """Whatever weights its config names."""
    cfg = load_config("unets/smp_unet_plus_plus", {"input_size": 32}, settings=[TestNetOfSMP.small])
    assert cfg.model.seg_head.decoder.pretrained == "smp://imagenet"
    with DefaultScope.overwrite_default_scope("pe_unified"):
        weights = MODELS.build(cfg.model).state_dict()
    cfg.model.seg_head.decoder.pretrained = "/etc/passwd"
    torch.save({"meta": {"cfg": cfg.to_dict()}, "state_dict": weights}, tmp_path / "m.pth")
    loaded = load_model(tmp_path / "m.pth", device="cpu")
    assert loaded.model.head("seg").decoder.pretrained is None
    cfg.model.seg_head.decoder.arch = "from_pretrained"
    torch.save({"meta": {"cfg": cfg.to_dict()}, "state_dict": weights}, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="has no from_pretrained"):
        load_model(tmp_path / "m.pth", device="cpu")


def test_only_masks_come_without_a_backbone():
    config = dict(
        type="PEUnified", backbone=dict(type="NoBackbone"), cls_head=dict(type="PEClsHead")
    )
    with pytest.raises(ConfigError, match="NoBackbone has no levels"), building("model"):
        MODELS.build(config)
    with pytest.raises(CamError, match="no level -1"):
        level_of(NoBackbone(), -1)


def test_a_whole_net_beside_a_backbone_of_other_heads():
    backbone = dict(type="PEResNet", depth=18, base_channels=4)
    seg = dict(type="PESegHead", decoder=dict(type="XNet", base_channels=4))
    model = MODELS.build(
        dict(type="PEUnified", backbone=backbone, cls_head=dict(type="PEClsHead"), seg_head=seg)
    )
    found = model.eval()(torch.zeros(1, 3, 64, 64))
    assert found["cls"].shape == (1, 2) and found["seg"].shape == (1, 1, 64, 64)


def test_all_of_a_whole_net_learns_at_the_heads_rate():
    cfg = load_config("unets/xnet", settings=[TestXNet.small])
    with DefaultScope.overwrite_default_scope("pe_unified"):
        model = MODELS.build(cfg.model)
        wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=0.1))
        optim = LayerDecayConstructor(wrapper)(model)
        with pytest.raises(ValueError, match=r"layer_decay=0\.5 .* this PEUnified has none"):
            LayerDecayConstructor(wrapper, dict(layer_decay=0.5))(model)
    assert {group["lr"] for group in optim.optimizer.param_groups} == {0.1}
    held = sum(len(group["params"]) for group in optim.optimizer.param_groups)
    assert held == len(list(model.parameters()))


def test_knobs_reach_the_net_in_place_of_the_backbone():
    cfg = load_config("unets/nfn_plus", {"preset": "paper", "windows": ["pe", "lung"]})
    decoder = cfg.model.seg_head.decoder
    assert (decoder.preset, decoder.image_channels) == ("paper", 2)
    assert "in_channels" not in decoder
    assert cfg.model.backbone == dict(type="NoBackbone")
    cfg = load_config("unets/smp_unet_plus_plus", {"pretrained": None, "windows": ["pe"]})
    assert cfg.model.seg_head.decoder.pretrained is None
    assert cfg.model.seg_head.decoder.image_channels == 1


def test_the_second_net_of_nfn_sees_all_levels_of_the_first():
    net = NFNPlus(base_channels=4).eval()
    seen = {}
    for name, block in net.followed.down.named_children():
        block.register_forward_hook(lambda _, given, __, name=name: seen.update({name: given[0]}))
    coarsest, middle, front = net.front(torch.randn(1, 3, 32, 32))
    net.followed(front, (middle, coarsest))
    torch.testing.assert_close(seen["0"], front)
    torch.testing.assert_close(seen["1"][:, :8], middle)
    torch.testing.assert_close(seen["2"][:, :16], coarsest)
    assert [seen[name].shape[1] for name in "012"] == [4, 8 + 4, 16 + 8]


def test_the_second_pass_of_xnet_is_at_half_size():
    net = XNet(base_channels=4).eval()
    sizes = []
    for block in (*net.down_again, *net.up_again):
        block.register_forward_hook(lambda *call: sizes.append(call[2].shape[-1]))
    assert net((), torch.zeros(1, 3, 64, 64)).shape == (1, 4, 64, 64)
    assert sizes == [32, 16, 8, 16, 32, 64]


def test_a_residual_block_of_u2net_pools_or_dilates():
    pooled, flat = ResidualUBlock(7, False, 3, 4, 6), ResidualUBlock(4, True, 3, 4, 6)
    rates = [[block.conv.dilation[0] for block in kind.down] for kind in (pooled, flat)]
    assert rates == [[1, 1, 1, 1, 1, 1, 2], [1, 2, 4, 8]]
    assert [block.conv.dilation[0] for block in flat.up] == [4, 2, 1]
    smallest = []
    pooled.down[5].register_forward_hook(lambda *call: smallest.append(call[2].shape[-1]))
    assert pooled(torch.zeros(1, 3, 64, 64)).shape == (1, 6, 64, 64)
    assert smallest == [2]


def test_the_map_of_u2net_is_its_side_outputs():
    net = U2Net(small=True, base_channels=8).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        joined, sides = net.with_sides((), image)
        assert torch.equal(net((), image), joined)
    assert [side.shape[-1] for side in sides] == [2, 4, 8, 16, 32, 64]
    torch.testing.assert_close(joined[:, -1:], sides[-1])
    assert U2Net(small=True, base_channels=8, deep_supervision=False).sides == 0
