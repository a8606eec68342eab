import numpy as np
import pytest
import torch
from monai.visualize import GradCAM
from torch import nn

from pe_unified.inference.fusing import fuse_batch_norms
from pe_unified.models import (
    BackboneEncoder,
    PEResNet,
    PESwin,
    PETimm,
    R3D18Encoder,
    TimmEncoder,
    WindowBranches,
)
from pe_unified.models.backbones.levels import FeatureInfo
from pe_unified.models.cam import CamError, _as_map, grad_cam, level_of

SWIN = dict(embed_dims=16, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4), window_size=4)


def resnet(**options):
    torch.manual_seed(0)
    return PEResNet(18, base_channels=8, **options).eval()


class TinyNet(nn.Module):
    """Two levels: a convolution with ReLU, another of stride 2; given is their mean."""

    feature_info = FeatureInfo((3, 4), (1, 2))

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.ReLU(inplace=True))

    def level_modules(self):
        return [(self.first,), (self.second,)]

    def forward(self, inputs):
        return self.second(self.first(inputs)).mean(dim=(2, 3))


def test_the_last_level_by_hand():
    """Of a mean and a linear layer the gradient is the layer's weight over the cells."""
    net, image = TinyNet().eval(), torch.randn(2, 1, 6, 8)
    weight = torch.tensor([1.5, -2.0, 0.5, 1.0])
    found = grad_cam(net, image, -1, lambda means: means @ weight)
    with torch.no_grad():
        maps = net.second(net.first(image)).numpy()
    golden = np.einsum("k,nkrc->nrc", weight.numpy() / 12, maps).clip(0)
    np.testing.assert_allclose(found.numpy(), golden, rtol=1e-5, atol=1e-7)
    assert (golden == 0).any() and (golden > 0).any()


def test_an_inner_level_by_hand():
    """Its gradient, from the weights of the convolution behind it where that is active."""
    net, image = TinyNet().eval(), torch.randn(1, 1, 4, 6)
    weight = torch.tensor([1.0, 2.0, -1.0, 0.5])
    found = grad_cam(net, image, 0, lambda means: means @ weight)
    with torch.no_grad():
        maps = net.first(image)[0].numpy()
        active = (net.second[0](net.first(image)) > 0)[0].numpy()
        kernel = net.second[0].weight.numpy()  # (4, 3, 2, 2)
    gradient = np.zeros_like(maps)
    for k, r, c in np.argwhere(active):
        gradient[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2] += weight[k].item() * kernel[k] / 6
    golden = np.einsum("k,krc->rc", gradient.mean(axis=(1, 2)), maps).clip(0)
    np.testing.assert_allclose(found[0].numpy(), golden, rtol=1e-5, atol=1e-7)


class Classifier(nn.Module):
    def __init__(self, backbone, width):
        super().__init__()
        self.backbone, self.fc = backbone, nn.Linear(width, 2)

    def forward(self, image):
        return self.fc(self.backbone(image)[-1].mean(dim=(2, 3)))


@pytest.mark.parametrize("level", range(4))
def test_as_monai_computes_it(level):
    model = Classifier(resnet(), 64).eval()
    image = torch.randn(1, 3, 64, 96)
    found = grad_cam(
        model.backbone, image, level, lambda levels: model.fc(levels[-1].mean(dim=(2, 3)))[:, 1]
    )
    theirs = GradCAM(model, target_layers=f"backbone.layer{level + 1}").compute_map(image, 1)
    torch.testing.assert_close(found, theirs[:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "shape", "level", "size"),
    [
        (lambda: PESwin(**SWIN), (3, 70, 90), 0, (18, 23)),
        (lambda: PESwin(**SWIN), (3, 70, 90), -1, (3, 3)),
        (lambda: PETimm("test_convnext"), (3, 70, 90), 1, (12, 12)),
        (lambda: BackboneEncoder(dict(type="PEResNet", depth=18)), (3, 64, 96), 2, (4, 6)),
        (lambda: TimmEncoder("test_efficientnet"), (3, 64, 96), -1, (2, 3)),
        (lambda: TimmEncoder("test_vit", img_size=96), (3, 96, 96), -2, (6, 6)),
        (
            lambda: TimmEncoder("swin_tiny_patch4_window7_224", embed_dim=16, img_size=(64, 96)),
            (3, 64, 96),
            1,
            (8, 12),
        ),
        (lambda: WindowBranches(widths=(4, 5, 6, 7, 8), out_channels=9), (3, 64, 96), 2, (8, 12)),
        (lambda: R3D18Encoder(), (3, 4, 32, 48), 1, (2, 8, 12)),
    ],
)
def test_levels_of_every_kind_of_network(build, shape, level, size):
    torch.manual_seed(0)
    network = build().eval()
    assert len(network.level_modules()) == len(network.feature_info.channels)

    def score(given):
        given = given[-1].mean(dim=(2, 3)) if isinstance(given, tuple) else given
        return given.square().sum(dim=1)

    heat = grad_cam(network, torch.randn(2, *shape), level, score)
    assert heat.shape == (2, *size) and 0 <= heat.min() < heat.max()


def test_whatever_way_a_module_gives_its_maps():
    maps = torch.randn(2, 5, 3, 4)
    last, tokens = maps.permute(0, 2, 3, 1), maps.flatten(2).transpose(1, 2)
    with_class = torch.cat([torch.ones(2, 1, 5), tokens], dim=1)
    for given in (maps, last, tokens, with_class, maps.bfloat16().float()):
        found = _as_map(given, 5, [3, 4])
        torch.testing.assert_close(found, maps, rtol=1e-2, atol=1e-2)


def test_branches_are_summed_before_what_is_negative_goes():
    torch.manual_seed(0)
    network = WindowBranches(in_channels=2, widths=(4, 5, 6, 7, 8), out_channels=9).eval()
    image = torch.randn(1, 2, 64, 64)
    found = grad_cam(network, image, -1, lambda given: given.sum(dim=1))
    windows = zip(network.branches, image.split(1, dim=1))
    maps = [branch[:11](window).detach().requires_grad_() for branch, window in windows]
    ends = [branch[11:](each) for branch, each in zip(network.branches, maps)]
    gradients = torch.autograd.grad(network.join(torch.cat(ends, dim=1)).relu().sum(), maps)
    golden = sum(
        (gradient.mean(dim=(2, 3), keepdim=True) * each).sum(dim=1)
        for gradient, each in zip(gradients, maps)
    )
    torch.testing.assert_close(found, golden.relu())


@pytest.mark.parametrize("level", [0, -1])
def test_frozen_fused_and_in_bfloat16(level):
    torch.manual_seed(0)
    head = nn.Linear(64, 1).requires_grad_(False)

    def score(levels):
        return head(levels[-1].float().mean(dim=(2, 3)))[:, 0]

    free, image = resnet(), torch.randn(2, 3, 64, 64)
    golden = grad_cam(free, image, level, score)
    still = resnet(frozen_stages=4)
    still.load_state_dict(free.state_dict())
    fuse_batch_norms(still.eval()).requires_grad_(False)
    found = grad_cam(still, image, level, score)
    torch.testing.assert_close(found, golden, rtol=1e-4, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        rough = grad_cam(still, image, level, score)
    assert rough.dtype == torch.float32
    assert np.corrcoef(rough.flatten(), golden.flatten())[0, 1] > 0.99


def test_nothing_is_left_behind():
    net, image = TinyNet().eval(), torch.randn(1, 1, 4, 4)
    before = net(image)
    grad_cam(net, image, 0, lambda means: means.sum(dim=1))
    with pytest.raises(ZeroDivisionError):
        grad_cam(net, image, 0, lambda _: 1 / 0)
    assert not net.first._forward_hooks and torch.equal(net(image), before)
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("level", [4, -5, 17])
def test_a_level_that_is_not_there(level):
    with pytest.raises(CamError, match=rf"no level {level}: PEResNet has 4, 0 \(finest\) to 3"):
        grad_cam(resnet(), torch.zeros(1, 3, 32, 32), level, lambda levels: levels[-1].sum())


def test_networks_and_levels_that_tell_nothing():
    with pytest.raises(CamError, match="Linear does not describe its levels"):
        level_of(nn.Linear(1, 1), 0)
    image = torch.randn(1, 3, 96, 96)
    with pytest.raises(CamError, match=r"level 3 \(stride 32\) does not affect the answer"):
        grad_cam(resnet(), image, 3, lambda levels: levels[1].mean(dim=(1, 2, 3)))
    vit = TimmEncoder("test_vit", img_size=96).eval()  # reads the class token of its last level
    with pytest.raises(CamError, match="does not affect the answer"):
        grad_cam(vit, image, -1, lambda given: given[:, 0])
