"""What every part of a kind must do; a test class inherits and names its part."""

import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.engine import load_config
from pe_unified.image_network import without_start
from pe_unified.inference.export import export_model
from pe_unified.inference.model import load_model
from pe_unified.models.logit_conv import LogitConv
from pe_unified.registry import MODELS
from pe_unified.testing import tiny_batch

LEVELS = dict(in_channels=(8, 12, 16, 24), in_strides=(4, 8, 16, 32))
ODD_SIZES = [(64, 64), (97, 131)]


def round_trip(module: nn.Module, fresh: nn.Module) -> None:
    """Save one module's tensors and load them into another, strictly."""
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)


def without_gradient(module: nn.Module) -> list[str]:
    return [name for name, p in module.named_parameters() if p.grad is None]


def only_zeros(module: nn.Module) -> list[str]:
    """Parameters to which no gradient, or only zeros, arrived."""
    return [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]


def without_zeros(module: nn.Module) -> nn.Module:
    """With random numbers in parameters that are zero, behind which nothing learns at first."""
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return module


def levels_for(size: tuple[int, int], batch: int = 2, seed: int = 0) -> list[Tensor]:
    """Random backbone levels for an image of ``size``."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, width, -(-size[0] // stride), -(-size[1] // stride), generator=generator)
        for width, stride in zip(*LEVELS.values())
    ]


class BackboneTester:
    """``build(**options)`` gives the backbone under test; ``dropping`` makes it stochastic."""

    dropping: dict[str, Any] = dict(drop_path_rate=0.9)

    def build(self, **options: Any) -> nn.Module:
        raise NotImplementedError

    @pytest.mark.parametrize("size", ODD_SIZES)
    def test_declares_what_it_gives(self, size):
        backbone = self.build().eval()
        with torch.no_grad():
            levels = backbone(torch.randn(2, 3, *size))
        assert isinstance(levels, tuple)
        assert len(levels) == 4
        info = backbone.feature_info
        assert tuple(level.shape[1] for level in levels) == info.channels
        for level, stride in zip(levels, info.strides):
            assert level.shape[-2:] == (-(-size[0] // stride), -(-size[1] // stride))

    def test_gradients_reach_every_parameter(self):
        backbone = self.build().train()
        sum(level.square().mean() for level in backbone(torch.randn(2, 3, 64, 64))).backward()
        assert without_gradient(backbone) == []

    def test_saves_and_loads(self):
        first, second = self.build().eval(), self.build().eval()
        image = torch.randn(1, 3, 64, 64)
        round_trip(first, second)
        with torch.no_grad():
            for one, two in zip(first(image), second(image)):
                torch.testing.assert_close(one, two)

    def test_train_and_eval_return_the_backbone(self):
        backbone = self.build()
        assert backbone.train() is backbone
        assert backbone.eval() is backbone

    @pytest.mark.parametrize("stages", range(5))
    def test_frozen_means_frozen(self, stages):
        torch.manual_seed(0)
        backbone = self.build(frozen_stages=stages, **self.dropping).train().eval().train()
        backbone.requires_grad_(True).train()
        groups = backbone._stages()
        frozen = {id(p) for group in groups[: stages + 1] for m in group for p in m.parameters()}
        for parameter in backbone.parameters():
            assert parameter.requires_grad == (id(parameter) not in frozen)
        before = {name: value.clone() for name, value in backbone.state_dict().items()}
        image = torch.randn(2, 3, 64, 64)
        first, second = backbone(image), backbone(image)
        for level in range(stages):
            torch.testing.assert_close(first[level], second[level], rtol=0, atol=0)
            assert not first[level].requires_grad
        if stages < 4:
            optimiser = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], 0.1)
            sum(level.square().mean() for level in first).backward()
            optimiser.step()
        moved = [
            name
            for name, value in backbone.state_dict().items()
            if not torch.equal(value, before[name])
        ]
        assert not set(moved) & self.names_of(backbone, groups[: stages + 1])
        assert bool(moved) == (stages < 4), "what is not frozen learns"

    @staticmethod
    def names_of(backbone: nn.Module, groups: list[list[nn.Module]]) -> set[str]:
        names = {id(module): name for name, module in backbone.named_modules()}
        return {
            f"{names[id(module)]}.{key}"
            for group in groups
            for module in group
            for key in module.state_dict()
        }

    @pytest.mark.parametrize(
        "wrong, reason",
        [
            (dict(frozen_stages=5), "frozen_stages is -1"),
            (dict(out_indices=(3,)), r"always has out_indices=\(0, 1, 2, 3\)"),
        ],
    )
    def test_refuses(self, wrong, reason):
        with pytest.raises(ValueError, match=reason):
            self.build(**wrong)

    def test_eval_is_deterministic_and_per_sample(self):
        backbone = self.build(**self.dropping).eval()
        image = torch.randn(3, 3, 64, 64)
        with torch.no_grad():
            together, alone = backbone(image), backbone(image[1:2])
        for level, one in zip(together, alone):
            torch.testing.assert_close(level[1:2], one, rtol=1e-4, atol=1e-5)

    def test_channels_last_gives_the_same(self):
        backbone = self.build().eval()
        image = torch.randn(1, 3, 64, 96)
        with torch.no_grad():
            plain = backbone(image)
            backbone.to(memory_format=torch.channels_last)
            last = backbone(image.to(memory_format=torch.channels_last))
        for one, two in zip(plain, last):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("unread", [(0, 1, 2), (3,), (2, 3), (0, 1, 2, 3), (1,)])
    def test_knows_which_parameters_no_read_level_needs(self, unread):
        backbone = self.build().train()
        levels = backbone(torch.randn(2, 3, 64, 64))
        read = [level.square().mean() for i, level in enumerate(levels) if i not in unread]
        if read:
            sum(read).backward()
        behind = {id(parameter) for parameter in backbone.parameters_behind(set(unread))}
        lacking = {id(p) for p in backbone.parameters() if p.grad is None}
        assert behind == lacking


class OnLevelsTester:
    """Of parts that take the levels of ``LEVELS`` and an image."""

    def build(self, **options: Any) -> nn.Module:
        raise NotImplementedError

    def test_saves_and_loads(self):
        first, second = self.build().eval(), self.build().eval()
        round_trip(first, second)
        levels, image = levels_for((64, 64)), torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(first(levels, image), second(levels, image))


class DecoderTester(OnLevelsTester):
    """``build()`` gives the decoder under test."""

    @pytest.mark.parametrize("size", ODD_SIZES)
    def test_gives_a_map_of_the_width_it_declares(self, size):
        decoder = self.build().eval()
        with torch.no_grad():
            out = decoder(levels_for(size), torch.randn(2, 3, *size))
        assert out.shape[:2] == (2, decoder.out_channels)
        strides = {round(side / found) for side, found in zip(size, out.shape[-2:])}
        assert len(strides) == 1, "the same stride down and across"

    def test_gradients_reach_every_parameter_and_the_levels_read(self):
        decoder = without_zeros(self.build().train())
        levels = [level.requires_grad_() for level in levels_for((64, 64))]
        decoder(levels, torch.randn(2, 3, 64, 64)).square().mean().backward()
        assert only_zeros(decoder) == []
        read = [index for index, level in enumerate(levels) if level.grad is not None]
        assert read == sorted(decoder.levels_read)


class HeadTester(OnLevelsTester):
    """``build(**options)`` gives the head under test."""

    task: str
    prediction_fields: tuple[str, ...]

    def samples(self, size: tuple[int, int], **options: Any) -> list[PEDataSample]:
        samples = tiny_batch(size, labels=(self.task,), **options)["data_samples"]
        for sample in samples:
            sample.set_metainfo({"pad_shape": size, "batch_input_shape": size})
        return samples

    @pytest.mark.parametrize("size", ODD_SIZES)
    def test_learns_and_predicts_at_odd_sizes(self, size):
        head, levels, samples = self.build().train(), levels_for(size), self.samples(size)
        image = torch.randn(2, 3, *size)
        losses = head.loss(levels, samples, image)
        assert tuple(losses) == tuple(head.loss_names)
        assert all(torch.isfinite(value) and value.ndim == 0 for value in losses.values())
        with torch.no_grad():
            head.eval().predict(levels, samples, image)
        for sample in samples:
            assert set(self.prediction_fields) <= set(sample.keys())

    def test_gradients_reach_every_parameter_and_the_levels_read(self):
        torch.manual_seed(0)
        head, size = self.build().train(), (64, 64)
        levels = [level.requires_grad_() for level in levels_for(size)]
        sum(head.loss(levels, self.samples(size), torch.randn(2, 3, *size)).values()).backward()
        assert without_gradient(head) == []
        read = [index for index, level in enumerate(levels) if level.grad is not None]
        assert read == sorted(head.levels_read)

    def test_bfloat16_autocast_gives_finite_float32(self):
        head, size = self.build().train(), (64, 64)
        with torch.autocast("cpu", torch.bfloat16):
            losses = head.loss(levels_for(size), self.samples(size), torch.randn(2, 3, *size))
        for value in losses.values():
            assert value.dtype == torch.float32
            assert torch.isfinite(value)

    def test_only_negatives_give_finite_losses(self):
        size = (64, 64)
        samples = self.samples(size, positive=[False, False])
        losses = self.build().train().loss(levels_for(size), samples, torch.randn(2, 3, *size))
        assert all(torch.isfinite(value) for value in losses.values())


class SegmentationNetTester:
    """Of whole models for masks: ``config`` names one, ``small`` makes it so.

    ``millions`` is the published number of parameters, for two classes, as it is printed;
    ``sides`` counts the side outputs.
    """

    config: str
    small: Mapping[str, Any]
    millions: str = ""
    sides: int = 0
    widens: bool = True
    device: str = "meta"

    def settings(self, *changes: Mapping[str, Any]) -> Config:
        cfg = load_config(self.config, {"input_size": 32}, settings=changes)
        without_start(cfg.model)
        return cfg

    def build(self, cfg: Config | None = None) -> nn.Module:
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope("pe_unified"):
            return MODELS.build((cfg or self.settings(self.small)).model)

    def test_learns_and_answers_at_odd_sizes(self):
        """As the data preprocessor pads them."""
        model = without_zeros(self.build().train())
        batch = tiny_batch((37, 53), labels=("seg",))
        losses = model(**model.data_preprocessor(batch, True), mode="loss")
        names = {f"seg_{name}" for name in model.head("seg").loss_names}
        assert losses.keys() == names
        assert len(names) == (4 if self.sides else 2)
        assert all(torch.isfinite(value) and value.ndim == 0 for value in losses.values())
        sum(losses.values()).backward()
        assert only_zeros(model) == []
        with torch.no_grad():
            samples = model.eval()(**model.data_preprocessor(batch), mode="predict")
        assert {sample.seg_prob.data.shape for sample in samples} == {(1, 37, 53)}

    def test_answers_alike_from_a_file_and_exported(self, tmp_path):
        """A file of whoever it be: saved, loaded, its norms fused, then in ONNX."""
        pytest.importorskip("onnxruntime")
        cfg = self.settings(self.small)
        model = self.build(cfg).train()
        inputs = torch.randn(4, 3, 64, 64)
        with torch.no_grad():
            model(inputs)  # norms that have seen something
            expected = model.eval()(inputs)["seg"]
        meta = {"cfg": cfg.to_dict(), "pe_unified": "0"}
        torch.save({"meta": meta, "state_dict": model.state_dict()}, tmp_path / "m.pth")
        loaded = load_model(tmp_path / "m.pth", device="cpu", precision="fp32")
        with torch.no_grad():
            _, levels = loaded.engine.trunk(inputs)
            found = loaded.engine.heads(levels, inputs).seg
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
        manifest = export_model(loaded, "onnx", tmp_path / "exported")
        assert manifest["differences"]["seg"] < 1e-3
        written = {path.name for path in (tmp_path / "exported").iterdir()}
        assert ("trunk.onnx" in written) == bool(levels)

    def test_has_as_many_parameters_as_published(self):
        if not self.millions:
            pytest.skip("there is no published number")
        digits = len(self.millions.partition(".")[2])
        assert f"{self.count('seed') / 1e6:.{digits}f}" == self.millions

    def test_both_presets_build(self):
        seed, paper = self.count("seed"), self.count("paper")
        assert (3.9 < paper / seed < 4.1) if self.widens else seed == paper

    @classmethod
    @cache
    def count(cls, preset: str) -> int:
        """Parameters with a second logit in every layer that ends in one."""
        tester = cls()
        with torch.device(cls.device):
            model = tester.build(tester.settings({"preset": preset}))
        logits = [module for module in model.modules() if isinstance(module, LogitConv)]
        return sum(p.numel() for module in (model, *logits) for p in module.parameters())


class SeldomExported:
    """Before :class:`SegmentationNetTester`: other nets of the same parts are exported."""

    @pytest.mark.slow
    def test_answers_alike_from_a_file_and_exported(self, tmp_path):
        super().test_answers_alike_from_a_file_and_exported(tmp_path)
