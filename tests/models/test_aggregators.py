import pytest
import torch
from exam_part_testers import AggregatorTester, MirroredAggregatorTester, exam_features
from torch import nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from pe_unified.models import AttentionLSTMAggregator, GRUAggregator, TCNAggregator
from pe_unified.models.aggregators.steps import StepBatchNorm, with_differences


def _with_turned(module: nn.Module, turn) -> dict[str, torch.Tensor]:
    return {name: turn(name, value.clone()) for name, value in module.state_dict().items()}


def _swapped_neighbours(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Weights on (features, difference before, difference behind), the last two exchanged."""
    own, before, behind = weight.split(channels, dim=1)
    return torch.cat([own, behind, before], dim=1)


class TestTCN(MirroredAggregatorTester):
    sees = (7, 7)

    def build(self, **options):
        return TCNAggregator(self.channels, **{**dict(width=6, dropout=0.0), **options})

    def mirrored(self, aggregator):
        def turn(name, value):
            if name.endswith("original1"):
                value = value.flip(2)
            if value.ndim > 1 and value.shape[1] == 3 * self.channels:
                value = _swapped_neighbours(value, self.channels)
            return value

        twin = self.build()
        twin.load_state_dict(_with_turned(aggregator, turn))
        return twin, list(range(aggregator.out_channels))


class TestTCNOfTheFeaturesAlone(AggregatorTester):
    sees = (6, 6)

    def build(self, **options):
        return TCNAggregator(self.channels, width=self.channels, dropout=0.0, differences=False)


class TestCausalTCN(AggregatorTester):
    sees = (13, 0)

    def build(self, **options):
        return TCNAggregator(self.channels, width=6, dropout=0.0, causal=True)


class TestGRU(MirroredAggregatorTester):
    def build(self, **options):
        return GRUAggregator(self.channels, **{**dict(width=5), **options})

    def mirrored(self, aggregator):
        twin = self.build()
        twin.load_state_dict(
            {
                name.removesuffix("_reverse")
                if name.endswith("_reverse")
                else f"{name}_reverse": _swapped_neighbours(value, self.channels)
                if "weight_ih" in name
                else value
                for name, value in aggregator.state_dict().items()
            }
        )
        return twin, [*range(5, 10), *range(5)]


class TestTwoLayersOfGRU(AggregatorTester):
    def build(self, **options):
        return GRUAggregator(self.channels, width=5, layers=2, differences=False)


class TestGRUOfOneDirection(AggregatorTester):
    sees = (None, 0)

    def build(self, **options):
        return GRUAggregator(self.channels, width=5, bidirectional=False)


class TestAttentionLSTM(AggregatorTester):
    def build(self, **options):
        return AttentionLSTMAggregator(self.channels, heads=4, width=5, layers=2)


@pytest.mark.parametrize(
    "build, reason",
    [
        (lambda: TCNAggregator(4, kernel=4), "kernel is odd"),
        (lambda: GRUAggregator(4, dropout=0.1), "between layers"),
        (lambda: AttentionLSTMAggregator(12), "heads must divide"),
    ],
)
def test_settings_that_mean_nothing_are_refused(build, reason):
    with pytest.raises(ValueError, match=reason):
        build()


def test_an_even_kernel_may_look_back():
    features, mask = exam_features([6, 4], 4)
    assert TCNAggregator(4, width=5, kernel=2, causal=True)(features, mask).shape == (2, 6, 5)


def test_differences_by_hand():
    features, mask = exam_features([3, 2], 1)
    features[0, :, 0] = torch.tensor([1.0, 4.0, 9.0])
    features[1, :, 0] = torch.tensor([5.0, 7.0, 0.0])
    found = with_differences(features, mask)
    assert found[0].tolist() == [[1, 0, -3], [4, 3, -5], [9, 5, 0]]
    assert found[1, :2].tolist() == [[5, 0, -2], [7, 2, 0]], "the padding is no neighbour"
    assert found[1, 2].tolist() == [0, 0, 0]
    assert torch.equal(with_differences(features, mask, later=False), found[..., :2])


def test_normalisation_is_torchs_over_the_real_steps():
    features, mask = exam_features([4, 2], 3)
    features = features.nan_to_num(1e6)
    ours, golden = StepBatchNorm(3), nn.BatchNorm1d(3)
    torch.testing.assert_close(ours(features, mask)[mask], golden(features[mask]))
    assert torch.equal(ours.norm.running_var, golden.running_var)
    torch.testing.assert_close(ours.eval()(features, mask)[mask], golden.eval()(features[mask]))


def test_the_gru_is_torchs_on_each_exam_alone():
    torch.manual_seed(0)
    aggregator = GRUAggregator(4, width=3, layers=2, differences=False)
    features, mask = exam_features([5, 2, 3], 4)
    exams = [row[real] for row, real in zip(features, mask)]
    packed = pack_sequence(exams, enforce_sorted=False)
    golden, _ = pad_packed_sequence(aggregator.gru(packed)[0], batch_first=True)
    torch.testing.assert_close(aggregator(features, mask), golden)
    for row, exam in zip(golden, exams):
        torch.testing.assert_close(row[: len(exam)], aggregator.gru(exam)[0])


def test_the_attention_is_torchs():
    torch.manual_seed(0)
    ours = AttentionLSTMAggregator(8, heads=4).attention
    golden = nn.MultiheadAttention(8, 4, batch_first=True)
    golden.in_proj_weight.data, golden.in_proj_bias.data = ours.in_proj.weight, ours.in_proj.bias
    golden.out_proj.load_state_dict(ours.out_proj.state_dict())
    features, mask = exam_features([5, 2, 3], 8)
    features = features.nan_to_num()
    found, _ = golden(features, features, features, key_padding_mask=~mask)
    torch.testing.assert_close(ours(features, mask)[mask], found[mask])


def test_dropout_acts_while_training():
    features, mask = exam_features([5, 3], 4)
    for aggregator in (
        TCNAggregator(4, width=8, dropout=0.5),
        GRUAggregator(4, width=8, layers=2, dropout=0.5),
        AttentionLSTMAggregator(4, heads=2, width=8, dropout=0.5),
    ):
        one, other = (aggregator.train()(features, mask) for _ in range(2))
        assert not torch.equal(one, other)
        one, other = (aggregator.eval()(features, mask) for _ in range(2))
        assert torch.equal(one, other)


def test_published_sizes():
    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    # Phase two of Ma et al. has about 0.94 million, with its heads.
    assert count(TCNAggregator(512)) == pytest.approx(0.93e6, rel=0.01)
    assert TCNAggregator(512).out_channels == 128
    assert GRUAggregator(2048, width=512).gru.input_size == 3 * 2048
    semi_weak = AttentionLSTMAggregator(64)
    assert (semi_weak.attention.heads, semi_weak.lstm.num_layers) == (8, 3)
    assert semi_weak.out_channels == 128
