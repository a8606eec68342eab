import urllib.error

import pytest
import timm
import torch
import torchvision
from exam_part_testers import EncoderTester
from torch import nn

from pe_unified.errors import CheckpointError
from pe_unified.models import (
    BackboneEncoder,
    ClassifierEncoder,
    PEClsHead,
    R3D18Encoder,
    TimmEncoder,
    WindowBranches,
)
from pe_unified.models.backbones.pretrained import load_pretrained
from pe_unified.models.weights import reuse_weights
from pe_unified.registry import MODELS
from pe_unified.testing import tiny_model_config

RESNET = dict(type="pe_unified.PEResNet", depth=18, base_channels=8)
SWIN = dict(
    type="pe_unified.PESwin", embed_dims=16, depths=(1,) * 4, num_heads=(1, 2, 2, 4), window_size=4
)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class TestResNet(EncoderTester):
    def build(self, **options):
        return BackboneEncoder(RESNET, **options)


class TestSwinProjected(EncoderTester):
    def build(self, **options):
        return BackboneEncoder(SWIN, pool="avg+max", projection=5, dropout=0.3)


class TestViTOfTimm(EncoderTester):
    sizes = ((3, 96, 96),)

    def build(self, **options):
        return TimmEncoder("test_vit", img_size=96, projection=5, dropout=0.3)


class TestEfficientNetOfTimm(EncoderTester):
    def build(self, **options):
        return TimmEncoder("test_efficientnet")


class TestClassifier(EncoderTester):
    def build(self, **options):
        return ClassifierEncoder(RESNET, dict(type="pe_unified.PEClsHead", levels=(-2, -1)))


class TestWindowBranches(EncoderTester):
    def build(self, **options):
        return WindowBranches(widths=(4, 5, 6, 7, 8), out_channels=9)


class TestR3D(EncoderTester):
    sizes = ((3, 4, 32, 32), (3, 10, 33, 47))

    def build(self, **options):
        return R3D18Encoder(**{"base_channels": 16, **options})


def test_pooled_as_the_name_says():
    torch.manual_seed(0)
    both, image = BackboneEncoder(RESNET, pool="avg+max").eval(), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        level = both.backbone(image)[-1].flatten(2)
        golden = torch.cat([level.mean(2), level.amax(2)], dim=1)
        torch.testing.assert_close(both(image), golden)
        mean = BackboneEncoder(RESNET).eval()
        mean.load_state_dict(both.state_dict())
        torch.testing.assert_close(mean(image), golden[:, :64])
    with pytest.raises(ValueError, match="pool is one of"):
        BackboneEncoder(RESNET, pool="max")


def test_evidence_is_that_of_a_slice_models_head():
    torch.manual_seed(0)
    encoder, image = BackboneEncoder(RESNET, evidence_channels=8).eval(), torch.randn(2, 3, 64, 96)
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    head = PEClsHead(encoder.backbone.feature_info.channels, evidence_channels=8).eval()
    head.evidence.load_state_dict(encoder.evidence.state_dict())
    with torch.no_grad():
        levels = encoder.backbone(image)
        cells = head.evidence(levels).flatten(1)
        golden = torch.stack([cells.amax(1), cells.exp().mean(1).log()], dim=1)
        found = encoder(image)
    assert found.shape == (2, encoder.out_channels) == (2, 66)
    torch.testing.assert_close(found[:, 64:], golden)
    torch.testing.assert_close(found[:, :64], levels[-1].mean(dim=(2, 3)))


def test_projection_by_hand():
    encoder = BackboneEncoder(RESNET, projection=5, dropout=0.5).eval()
    plain, image = BackboneEncoder(RESNET).eval(), torch.randn(1, 3, 32, 32)
    plain.backbone.load_state_dict(encoder.backbone.state_dict())
    linear = encoder.projection[2]
    golden = nn.functional.gelu(plain(image)) @ linear.weight.T + linear.bias
    torch.testing.assert_close(encoder(image), golden)


def test_starts_from_a_slice_models_backbone(tmp_path):
    """By a rule of reuse, or as the backbone's pretrained weights."""
    slices = MODELS.build(tiny_model_config(["cls"]))
    path = tmp_path / "slices.pth"
    torch.save(slices.state_dict(), path)
    config = tiny_model_config(["cls"])["backbone"]
    model = nn.ModuleDict({"encoder": BackboneEncoder(config)})
    (report,) = reuse_weights(model, {"encoder.backbone:backbone": path})
    assert report.tensors == report.total
    encoder = BackboneEncoder({**config, "pretrained": str(path)})
    encoder.init_weights()
    for name, value in slices.backbone.state_dict().items():
        assert torch.equal(value, model["encoder"].backbone.state_dict()[name])
        assert torch.equal(value, encoder.backbone.state_dict()[name])


def test_what_no_read_level_needs_stands_still():
    encoder = BackboneEncoder(SWIN)
    still = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    assert still == {f"backbone.norm{k}.{part}" for k in range(3) for part in ("weight", "bias")}


@pytest.mark.parametrize(
    ("name", "width", "millions"),
    [
        ("coatnet_0_rw_224", 768, 26.7),
        ("tf_efficientnetv2_s", 1280, 20.2),
        ("vit_base_patch16_224", 768, 85.8),
        ("mobilenetv3_small_050", 1024, 0.57),
    ],
)
def test_published_encoders_of_timm(name, width, millions):
    with torch.device("meta"):
        encoder = TimmEncoder(name)
        assert encoder.eval()(torch.zeros(1, 3, 224, 224)).shape == (1, encoder.out_channels)
    assert encoder.out_channels == width
    assert count(encoder) / 1e6 == pytest.approx(millions, abs=0.05)


def test_timm_encoders_start_from_a_file(tmp_path):
    whole = timm.create_model("test_efficientnet")
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    encoder = TimmEncoder("test_efficientnet", pretrained=str(tmp_path / "weights.pth"))
    encoder.init_weights()
    for name, value in encoder.net.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name])
    nn.init.zeros_(encoder.net.conv_head.weight)
    encoder.init_weights()
    assert not encoder.net.conv_head.weight.any(), "once only"
    with pytest.raises(CheckpointError, match="nowhere"):
        TimmEncoder("test_vit", pretrained=str(tmp_path / "nowhere.pth")).init_weights()


def test_timm_encoders_refuse_what_timm_has_not():
    with pytest.raises(ValueError, match="near: coatnet"):
        TimmEncoder("coatnet_nought")
    with pytest.raises(ValueError, match="checkpoint_path: use pretrained"):
        TimmEncoder("test_vit", checkpoint_path="x.pth")


def test_branches_share_nothing_and_see_their_own_window():
    torch.manual_seed(0)
    encoder = WindowBranches(widths=(4, 5, 6, 7, 8), out_channels=9).eval()
    image = torch.randn(1, 3, 32, 32, requires_grad=True)
    encoder.branches[1](image[:, 1:2]).sum().backward()
    assert [bool(window.any()) for window in image.grad[0]] == [False, True, False]
    assert len({id(p) for p in encoder.parameters()}) == len(list(encoder.parameters()))
    with pytest.raises(ValueError, match="zip"):
        encoder(torch.zeros(1, 2, 32, 32))


def test_branches_have_the_published_size():
    with torch.device("meta"):
        assert count(WindowBranches()) == 59_738_432


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory) -> tuple[nn.Module, str]:
    """torchvision's r3d_18 with its classifier, and a file of it."""
    torch.manual_seed(0)
    theirs = torchvision.models.video.r3d_18().eval()
    for name, value in theirs.state_dict().items():
        if "running" in name:
            value.add_(torch.rand_like(value))
    path = tmp_path_factory.mktemp("kinetics") / "r3d.pth"
    torch.save(theirs.state_dict(), path)
    return theirs, str(path)


class TestR3DStart:
    def test_computes_what_torchvisions_does(self, kinetics):
        theirs, path = kinetics
        ours = R3D18Encoder(pretrained=path)
        ours.init_weights()
        chunk = torch.randn(2, 3, 4, 32, 32)
        with torch.no_grad():
            found = theirs.fc(ours.eval()(chunk))
            torch.testing.assert_close(found, theirs(chunk), rtol=1e-4, atol=1e-5)

    def test_narrow_is_the_same_network_with_fewer_channels(self):
        whole, narrow = R3D18Encoder(), R3D18Encoder(base_channels=16)
        chunk = torch.randn(2, 3, 4, 32, 32)
        assert narrow(chunk).shape == (2, narrow.out_channels) == (2, 128)
        sizes = ((a.shape, b.shape) for a, b in zip(whole.parameters(), narrow.parameters()))
        for one, other in sizes:
            scaled = [n // 4 if n >= 64 else n for n in one]
            assert list(other) == scaled

    def test_three_channels_are_spread_over_others(self, kinetics):
        theirs, path = kinetics
        wide = R3D18Encoder(in_channels=2, pretrained=path)
        wide.init_weights()
        grey = torch.randn(1, 1, 4, 32, 32)
        with torch.no_grad():
            found = theirs.fc(wide.eval()(grey.expand(-1, 2, -1, -1, -1)))
            golden = theirs(grey.expand(-1, 3, -1, -1, -1))
        torch.testing.assert_close(found, golden, rtol=1e-4, atol=1e-5)

    def test_no_network_is_one_clear_error(self, tmp_path, monkeypatch):
        def offline(url, *_):
            assert url.endswith("/r3d_18-b3b3357e.pth")
            raise urllib.error.URLError("no route to host")

        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
        encoder = R3D18Encoder(base_channels=16, pretrained="torchvision://r3d_18")
        with pytest.raises(CheckpointError, match=r"no route to host.*put it at .*r3d_18-b3b3357e"):
            encoder.init_weights()

    def test_weights_of_another_network_are_refused(self, tmp_path):
        path = tmp_path / "resnet.pth"
        torch.save(torchvision.models.resnet18().state_dict(), path)
        with pytest.raises(ValueError, match="do not fit"):
            load_pretrained(R3D18Encoder(), path)


def test_r3d_has_the_published_size():
    with torch.device("meta"):
        encoder = R3D18Encoder()
        classifier = nn.Linear(encoder.out_channels, 1)
    assert (count(encoder) + count(classifier)) / 1e6 == pytest.approx(33.2, abs=0.05)


def test_frozen_stages_of_r3d_stand_still():
    encoder = R3D18Encoder(base_channels=16, frozen_stages=2).eval().train()
    encoder.requires_grad_(True).train()
    frozen = ("stem.", "layer1.", "layer2.")
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad != name.startswith(frozen)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder(torch.randn(2, 3, 2, 16, 16))
    moved = {
        name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved
    assert not any(name.startswith(frozen) for name in moved)
    with pytest.raises(ValueError, match="frozen_stages is -1"):
        R3D18Encoder(frozen_stages=5)


def test_norm_eval_of_r3d_stills_all_statistics():
    encoder = R3D18Encoder(base_channels=16, norm_eval=True).train()
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    encoder(torch.randn(2, 3, 2, 16, 16))
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())


def test_chunks_are_read_in_float32_on_a_cpu():
    """Some gradients of 3D convolutions are not finite in bfloat16 there."""
    encoder = R3D18Encoder(base_channels=16).train()
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(torch.randn(2, 3, 4, 16, 16))
    assert found.dtype == torch.float32
    found.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_a_classifier_gives_the_log_odds_of_its_probability():
    torch.manual_seed(0)
    encoder = TestClassifier().build().eval()
    torch.nn.init.normal_(encoder.cls_head.fc.weight, std=5.0)
    inputs = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        found = encoder(inputs)[:, 0]
        probability = encoder.cls_head(encoder.backbone(inputs)).softmax(dim=1)[:, 1]
    assert probability.std() > 0.01
    torch.testing.assert_close(found, probability.logit(), rtol=1e-3, atol=1e-4)
