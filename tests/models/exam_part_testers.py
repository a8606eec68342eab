"""What every encoder and every aggregator of exams must do; a part's test inherits its tester."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from part_testers import round_trip, without_gradient
from torch import Tensor, nn


def exam_features(
    lengths: Sequence[int], channels: int, padding: int = 0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Random features of exams of these lengths, their padding not a number, and the mask.

    Args:
        padding: steps behind the longest exam.
    """
    generator = torch.Generator().manual_seed(seed)
    exams = [torch.randn(length, channels, generator=generator) for length in lengths]
    mask = torch.arange(max(lengths) + padding) < torch.tensor(lengths).unsqueeze(1)
    features = torch.full((*mask.shape, channels), torch.nan)
    features[mask] = torch.cat(exams)
    return features, mask


def by_onnx(module: nn.Module, features: Tensor, mask: Tensor, folder: Path) -> Tensor:
    """What a module of features and mask gives by ONNX Runtime; written for other exams."""
    onnxruntime = pytest.importorskip("onnxruntime")
    example, real = exam_features([3, 4], features.shape[2])
    path = str(folder / "module.onnx")
    torch.onnx.export(
        module,
        (example.nan_to_num(), real),
        path,
        input_names=["features", "mask"],
        output_names=["found"],
        dynamic_axes={name: {0: "exams", 1: "steps"} for name in ("features", "mask")},
        opset_version=18,
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = {"features": features.nan_to_num().numpy(), "mask": mask.numpy()}
    return torch.from_numpy(session.run(["found"], given)[0])


class AggregatorTester:
    """``build(**options)`` gives the aggregator under test, of ``channels`` and without dropout."""

    channels = 8
    lengths = (5, 9, 1)
    #: Steps that a step sees before and behind itself; None for all of them.
    sees: tuple[int | None, int | None] = (None, None)

    def build(self, **options: Any) -> nn.Module:
        raise NotImplementedError

    def exams(self, **options: Any) -> tuple[Tensor, Tensor]:
        return exam_features(self.lengths, self.channels, **options)

    def test_gives_steps_of_the_width_it_declares(self):
        aggregator = self.build().eval()
        features, mask = self.exams(padding=2)
        with torch.no_grad():
            found = aggregator(features, mask)
        assert found.shape == (*mask.shape, aggregator.out_channels)
        assert found[mask].isfinite().all()
        assert (found[~mask] == 0).all()

    def test_gradients_reach_every_parameter(self):
        torch.manual_seed(0)
        aggregator = self.build().train()
        features, mask = self.exams()
        aggregator(features, mask)[mask].square().sum().backward()
        assert without_gradient(aggregator) == []
        assert all(p.grad.isfinite().all() for p in aggregator.parameters())

    @pytest.mark.parametrize("training", [False, True])
    def test_padding_changes_nothing(self, training):
        """Neither what comes out, nor what is remembered, nor what is learned."""
        torch.manual_seed(0)
        one, other = self.build().train(training), self.build().train(training)
        other.load_state_dict(one.state_dict())
        for aggregator, padding in ((one, 0), (other, 4)):
            features, mask = self.exams(padding=padding)
            aggregator.found = aggregator(features, mask)[mask]
            aggregator.found.square().sum().backward()
        torch.testing.assert_close(one.found, other.found, rtol=1e-5, atol=1e-6)
        for name, value in one.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-5, atol=1e-6)
        for mine, its in zip(one.parameters(), other.parameters()):
            torch.testing.assert_close(mine.grad, its.grad, rtol=1e-4, atol=1e-5)

    def test_exams_do_not_see_each_other(self):
        aggregator = self.build().eval()
        features, mask = self.exams()
        with torch.no_grad():
            together = aggregator(features, mask)
            for index, length in enumerate(self.lengths):
                alone = aggregator(features[index : index + 1, :length], mask[index, :length][None])
                torch.testing.assert_close(together[index, :length], alone[0])

    def test_sees_as_far_as_promised(self):
        aggregator, length = self.build().eval(), 41
        features, mask = exam_features([length], self.channels)
        features.requires_grad_()
        aggregator(features, mask)[0, length // 2].sum().backward()
        seen = features.grad[0].abs().sum(dim=1).nonzero().flatten() - length // 2
        before, behind = (length // 2 if steps is None else steps for steps in self.sees)
        assert (-seen.min().item(), seen.max().item()) == (before, behind)

    def test_saves_and_loads(self):
        first, second = self.build().eval(), self.build().eval()
        round_trip(first, second)
        features, mask = self.exams()
        with torch.no_grad():
            torch.testing.assert_close(first(features, mask), second(features, mask))

    def test_bfloat16_autocast_is_finite(self):
        aggregator = self.build().train()
        features, mask = self.exams()
        with torch.autocast("cpu", torch.bfloat16):
            assert aggregator(features, mask)[mask].isfinite().all()

    @pytest.mark.filterwarnings("ignore")
    def test_onnx_computes_the_same_for_other_lengths(self, tmp_path):
        aggregator, (features, mask) = self.build().eval(), self.exams()
        with torch.no_grad():
            golden = aggregator(features, mask)
        found = by_onnx(aggregator, features, mask, tmp_path)
        torch.testing.assert_close(found[mask], golden[mask], rtol=1e-4, atol=1e-5)


class MirroredAggregatorTester(AggregatorTester):
    """Of an aggregator to which both directions are alike."""

    def mirrored(self, aggregator: nn.Module) -> tuple[nn.Module, list[int]]:
        """What answers to reversed exams as ``aggregator`` to exams; order of its channels."""
        raise NotImplementedError

    def test_both_directions_are_alike(self):
        torch.manual_seed(0)
        aggregator = self.build().eval()
        twin, order = self.mirrored(aggregator)
        features, mask = self.exams()
        turned = features.clone()
        for row, length in zip(turned, self.lengths):
            row[:length] = row[:length].flip(0)
        with torch.no_grad():
            golden, found = aggregator(features, mask), twin.eval()(turned, mask)[..., order]
        for mine, its, length in zip(found, golden, self.lengths):
            torch.testing.assert_close(mine[:length].flip(0), its[:length], rtol=1e-4, atol=1e-5)


class EncoderTester:
    """``build(**options)`` gives the encoder under test; ``sizes`` are of its inputs."""

    sizes: Sequence[tuple[int, ...]] = ((3, 64, 64), (3, 97, 131))

    def build(self, **options: Any) -> nn.Module:
        raise NotImplementedError

    def test_gives_vectors_of_the_width_it_declares(self):
        encoder = self.build().eval()
        for size in self.sizes:
            with torch.no_grad():
                assert encoder(torch.randn(2, *size)).shape == (2, encoder.out_channels)

    def test_gradients_reach_every_parameter_that_learns(self):
        torch.manual_seed(0)
        encoder = self.build().train()
        encoder(torch.randn(2, *self.sizes[0])).square().mean().backward()
        learning = [p.grad for p in encoder.parameters() if p.requires_grad]
        assert learning
        assert all(grad is not None for grad in learning)

    def test_saves_and_loads(self):
        first, second = self.build().eval(), self.build().eval()
        round_trip(first, second)
        inputs = torch.randn(1, *self.sizes[0])
        with torch.no_grad():
            torch.testing.assert_close(first(inputs), second(inputs))

    def test_eval_is_deterministic_and_per_sample(self):
        encoder = self.build().eval()
        inputs = torch.randn(3, *self.sizes[0])
        with torch.no_grad():
            together, alone = encoder(inputs), encoder(inputs[1:2])
        torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)

    def test_train_and_eval_return_the_encoder(self):
        encoder = self.build()
        assert encoder.train() is encoder
        assert encoder.eval() is encoder
