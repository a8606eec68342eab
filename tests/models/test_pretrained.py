"""The ImageNet start, on files of each layout that the test makes itself."""

import pytest
import torch
import torchvision
from mmpretrain.models import ResNet, SwinTransformer
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter

from pe_unified.errors import CheckpointError
from pe_unified.models import PEResNet, PESwin
from pe_unified.models.backbones.pretrained import load_pretrained
from pe_unified.models.weights import ReuseError
from pe_unified.registry import MODELS
from pe_unified.testing import tiny_model_config

TINY_SWIN = dict(embed_dims=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4))


def _shaken(model: nn.Module) -> nn.Module:
    """Random everywhere, statistics and biases too, so that no wrong place looks right."""
    generator = torch.Generator().manual_seed(0)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value *= 1 + 0.1 * torch.randn(value.shape, generator=generator)
            value += 0.02 * torch.rand(value.shape, generator=generator).sub_(0.3)
    model.eval()
    return model


def _file(tmp_path, tensors, **envelope):
    path = tmp_path / "weights.pth"
    torch.save({**envelope, "state_dict": tensors} if envelope else tensors, path)
    return str(path)


@pytest.mark.parametrize("depth", [18, 50])
def test_torchvision_resnet_gives_the_same_levels(tmp_path, depth):
    theirs = _shaken(getattr(torchvision.models, f"resnet{depth}")())
    ours = PEResNet(depth=depth, pretrained=_file(tmp_path, theirs.state_dict()))
    ours.init_weights()
    ours.eval()
    layers = IntermediateLayerGetter(theirs, {f"layer{i}": str(i) for i in range(1, 5)})
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for mine, its in zip(ours(image), layers(image).values()):
            torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(224, 224), (96, 160), (32, 64)])
def test_torchvision_swin_gives_the_same_features(tmp_path, size):
    """Tables of positions and the order of merged patches differ; one-window maps too."""
    theirs = _shaken(
        torchvision.models.SwinTransformer(
            [4, 4], TINY_SWIN["embed_dims"], [2, 2, 2, 2], [1, 2, 2, 4], [7, 7], num_classes=5
        )
    )
    ours = PESwin(**TINY_SWIN, pretrained=_file(tmp_path, theirs.state_dict()))
    ours.init_weights()
    ours.eval()
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        golden = theirs.norm(theirs.features(image)).permute(0, 3, 1, 2)
        torch.testing.assert_close(ours(image)[-1], golden, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 5, 9])
@pytest.mark.parametrize("kind", ["resnet", "swin"])
def test_three_channels_are_spread_over_others(tmp_path, kind, channels):
    """A grey picture in all channels looks as it did in three."""

    def build(**given):
        return (
            PEResNet(18, base_channels=16, **given)
            if kind == "resnet"
            else PESwin(**TINY_SWIN, **given)
        )

    usual = _shaken(build())
    weights = {f"backbone.{name}": value for name, value in usual.state_dict().items()}
    wide = build(in_channels=channels, pretrained=_file(tmp_path, weights))
    wide.init_weights()
    wide.eval()
    grey = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        found, golden = wide(grey.expand(1, channels, 64, 64)), usual(grey.expand(1, 3, 64, 64))
    torch.testing.assert_close(found[-1], golden[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_swin_t_itself(tmp_path):
    theirs = _shaken(torchvision.models.swin_t())
    ours = PESwin()
    report = load_pretrained(ours, _file(tmp_path, theirs.state_dict()))
    assert report.total - report.tensors == 6, "the norms of the first three outputs are fresh"
    image = torch.randn(1, 3, 64, 64)
    ours.eval()
    with torch.no_grad():
        golden = theirs.norm(theirs.features(image)).permute(0, 3, 1, 2)
        torch.testing.assert_close(ours(image)[-1], golden, rtol=1e-4, atol=1e-4)


def test_mmpretrain_checkpoints(tmp_path):
    stock = nn.Module()
    stock.backbone = _shaken(ResNet(18, base_channels=8, stem_channels=8, out_indices=(3,)))
    stock.head = nn.Linear(64, 5)
    ours = PEResNet(18, base_channels=8)
    report = load_pretrained(ours, _file(tmp_path, stock.state_dict(), meta={}))
    assert report.tensors == report.total == len(ours.state_dict())
    image = torch.randn(1, 3, 64, 64)
    ours.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(image)[-1], stock.backbone(image)[0])


def test_mmpretrain_swin_checkpoints(tmp_path):
    arch = {key: list(v) if isinstance(v, tuple) else v for key, v in TINY_SWIN.items()}
    stock = nn.Module()
    stock.backbone = _shaken(SwinTransformer(arch=arch))
    ours = PESwin(**TINY_SWIN)
    load_pretrained(ours, _file(tmp_path, stock.state_dict(), meta={}))
    image = torch.randn(1, 3, 256, 256)
    ours.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(image)[-1], stock.backbone(image)[0])


@pytest.mark.parametrize("kind", ["resnet", "swin"])
def test_own_checkpoints(tmp_path, kind):
    trained = _shaken(MODELS.build(tiny_model_config(("cls",), kind)))
    path = _file(tmp_path, trained.state_dict(), meta={"step": "s1_cls"})
    config = tiny_model_config(("seg",), kind)
    model = MODELS.build(dict(config, backbone=dict(config["backbone"], pretrained=path)))
    model.init_weights()
    for name, value in trained.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value), name


def test_weights_of_another_network_are_refused(tmp_path):
    path = _file(tmp_path, torchvision.models.resnet18().state_dict())
    with pytest.raises(ReuseError, match=r"backbone: .*weights\.pth do not fit"):
        load_pretrained(PEResNet(depth=50), path)
    with pytest.raises(ReuseError, match="none of its"):
        load_pretrained(PESwin(**TINY_SWIN), path)


@pytest.mark.parametrize(
    "source, url",
    [
        ("torchvision://resnet50", "/models/resnet50-11ad3fa6.pth"),
        (
            "torchvision://ResNet18_Weights.IMAGENET1K_V1",
            "/models/resnet18-f37072fd.pth",
        ),
        ("torchvision://swin_t", "/models/swin_t-704ceda3.pth"),
    ],
)
def test_without_a_network_it_says_what_to_fetch_and_where_to_put_it(
    tmp_path, monkeypatch, source, url
):
    def no_network(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(PEResNet(18), source)
    message = str(caught.value)
    assert url in message
    assert str(tmp_path / "checkpoints" / url.rpartition("/")[2]) in message
    assert "Network is unreachable" in message


def test_a_file_put_where_it_said_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    theirs = _shaken(torchvision.models.resnet18())
    torch.save(theirs.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    ours = PEResNet(18, pretrained="torchvision://resnet18")
    ours.init_weights()
    assert torch.equal(ours.conv1.weight, theirs.conv1.weight)


def test_a_download_is_checked_against_the_hash_in_its_name(tmp_path, monkeypatch):
    served = tmp_path / "served-0123abcd.pth"
    torch.save(torchvision.models.resnet18().state_dict(), served)
    fetch = torch.hub.download_url_to_file
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        torch.hub,
        "download_url_to_file",
        lambda url, path, mark: fetch(served.as_uri(), path, mark, progress=False),
    )
    with pytest.raises(CheckpointError, match="invalid hash value"):
        load_pretrained(PEResNet(18), "https://example.org/weights-0123abcd.pth")
    assert not (tmp_path / "checkpoints" / "weights-0123abcd.pth").exists()
    load_pretrained(PEResNet(18), "https://example.org/plain.pth")
    assert (tmp_path / "checkpoints" / "plain.pth").is_file()


@pytest.mark.parametrize(
    "source, reason",
    [
        ("torchvision://resnet5000", "torchvision has no weights 'resnet5000'"),
        ("open-mmlab://resnet50", r"known are torchvision://"),
        ("nowhere/weights.pth", r"nowhere/weights\.pth: no such file"),
    ],
)
def test_what_is_not_there_is_named(source, reason):
    with pytest.raises(CheckpointError, match=reason):
        load_pretrained(PEResNet(18), source)


def test_building_a_model_needs_no_file():
    """Only training starts from ImageNet; testing builds the same config without a network."""
    PEResNet(18, base_channels=8, pretrained="nowhere/weights.pth")
