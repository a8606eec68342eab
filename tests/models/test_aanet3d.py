"""AANet-3D: its size, its gate, and what is left without either head."""

import pytest
import torch

from pe_unified.models.nets.aanet3d import AANet3D, StandardisedConv3d, StandardisedUp3d


def small(**options):
    torch.manual_seed(0)
    return AANet3D(width=0.125, **options)


@pytest.fixture(scope="module")
def volume():
    return torch.rand(2, 1, 32, 16, 32, generator=torch.Generator().manual_seed(1))


def parameters(network):
    return sum(each.numel() for each in network.parameters())


def test_it_has_as_many_parameters_as_published():
    with torch.device("meta"):
        network = AANet3D()
        without = AANet3D(artery=False)
    assert parameters(network) == pytest.approx(14.9e6, rel=0.001)
    # A head: a transposed 2x2x2 convolution to 16 channels, their norm, 3x3x3 to one, its bias.
    assert parameters(network) - parameters(without) == 32 * 16 * 8 + 2 * 16 + 16 * 27 + 1


def test_both_maps_are_of_the_size_of_the_volume(volume):
    embolus, artery = small()(volume)
    assert embolus.shape == artery.shape == volume.shape
    assert embolus.dtype == artery.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "heads"),
    [
        (dict(artery=False), (True, False)),
        (dict(embolus=False), (False, True)),
        (dict(gate=False), (True, True)),
    ],
)
def test_ablations(volume, options, heads):
    network = small(**options)
    answers = network(volume)
    assert tuple(each is not None for each in answers) == heads
    assert not network.gate or options == dict(embolus=False)


def test_before_it_has_learned_every_voxel_has_a_probability_of_a_hundredth(volume):
    embolus, artery = small()(volume)
    for each in (embolus, artery):
        torch.testing.assert_close(each.sigmoid(), torch.full_like(each, 0.01))


class Remembers(torch.nn.Module):
    """An embolus head that keeps what it is given."""

    def forward(self, features):
        self.given = features
        return features[:, :1]


@pytest.mark.parametrize(("start", "factor"), [("shut", 0.01), ("open", 0.99)])
def test_the_gate_multiplies_the_features(volume, start, factor):
    gated, plain = small(gate_start=start), small(gate=False)
    plain.load_state_dict(gated.state_dict())
    gated.embolus_head, plain.embolus_head = Remembers(), Remembers()
    gated(volume)
    plain(volume)
    expected = factor * plain.embolus_head.given
    torch.testing.assert_close(gated.embolus_head.given, expected)


def test_the_gate_is_the_largest_probability_of_artery_nearby(volume):
    network, plain = small(), small(gate=False)
    torch.nn.init.normal_(network.artery_head.output.weight)
    plain.load_state_dict(network.state_dict())
    network.embolus_head, plain.embolus_head = Remembers(), Remembers()
    _, artery = network(volume)
    plain(volume)
    probability = artery.sigmoid()
    blocks = probability.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2)
    gate = blocks.flatten(5).amax(dim=-1)
    torch.testing.assert_close(network.embolus_head.given, gate * plain.embolus_head.given)


def test_emboli_teach_the_artery_head_through_the_gate(volume):
    for gate, taught in ((True, True), (False, False)):
        network = small(gate=gate)
        torch.nn.init.normal_(network.embolus_head.output.weight)
        torch.nn.init.normal_(network.artery_head.output.weight)
        embolus, _ = network(volume)
        embolus.sum().backward()
        gradient = network.artery_head.output.weight.grad
        assert (gradient is not None and bool(gradient.any())) == taught


def test_gradients_reach_every_parameter(volume):
    network = small()
    for head in (network.embolus_head, network.artery_head):
        torch.nn.init.normal_(head.output.weight)
    embolus, artery = network(volume)
    (embolus.square().sum() + artery.square().sum()).backward()
    silent = [name for name, each in network.named_parameters() if each.grad is None]
    assert silent == []
    dead = [name for name, each in network.named_parameters() if not each.grad.any()]
    assert dead == []


@pytest.mark.parametrize("layer", [StandardisedConv3d(3, 4, 3), StandardisedUp3d(3, 4)])
def test_the_size_of_weights_and_a_constant_do_not_matter(layer):
    features = torch.rand(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    before = layer(features)
    with torch.no_grad():
        layer.weight.mul_(7).add_(3)
    torch.testing.assert_close(layer(features), before, rtol=1e-3, atol=1e-3)


def test_weights_are_standardised_by_filter():
    layer = StandardisedConv3d(2, 3, 1)
    one = torch.eye(2)[:, :, None, None, None]  # two voxels, one channel each
    used = layer(one).squeeze().T  # (filters, channels)
    torch.testing.assert_close(used.mean(dim=1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(used.var(dim=1, correction=0), torch.ones(3), rtol=1e-3, atol=0)


def test_a_side_that_is_no_multiple_of_sixteen_is_refused():
    with pytest.raises(ValueError, match="multiples of 16"):
        small()(torch.zeros(1, 1, 16, 16, 24))


def test_a_network_without_heads_is_refused():
    with pytest.raises(ValueError, match="needs an artery head"):
        small(artery=False, embolus=False)
    with pytest.raises(ValueError, match="gate_start"):
        small(gate_start="ajar")
