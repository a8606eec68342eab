"""Stochastic weight averaging: the mean by hand, batch norm, resuming, publishing, the rate."""

import itertools
import shutil

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from tiny_run import small_config

from pe_unified.checkpoints import load_checkpoint_safely
from pe_unified.engine import ConfigError, PERunner, SWAHook, load_config, publish
from pe_unified.registry import MODELS

SETTINGS = {
    "max_iters": 6,
    "swa_share": 0.5,
    "lr": 0.05,
    "default_hooks.checkpoint.interval": 2,
    "train_cfg.val_interval": 3,
}
#: Batches that batch norm is measured on.
BATCHES = 3


def config(repository, data, work_dir):
    cfg = small_config(repository, data, work_dir, "cls", **SETTINGS)
    cfg.default_hooks.average.batches = BATCHES
    return cfg


class Weights(Hook):
    """Keeps the weights of every iteration, and what batch norm is measured in validation."""

    priority = "LOWEST"

    def __init__(self):
        self.kept, self.validated = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.kept.append({name: p.detach().clone() for name, p in runner.model.named_parameters()})

    def before_val_epoch(self, runner):
        self.validated.append({k: v.clone() for k, v in runner.model.state_dict().items()})


@pytest.fixture(scope="module")
def run(repository, tiny_dataset, tmp_path_factory):
    """A run of six iterations, whose last three are averaged; its folder, and its weights."""
    work_dir = tmp_path_factory.mktemp("swa")
    runner, weights = PERunner.from_cfg(config(repository, tiny_dataset, work_dir)), Weights()
    runner.register_hook(weights)
    runner.train()
    return work_dir, weights


def test_the_mean_of_the_last_weights_is_validated_and_handed_on(run):
    work_dir, weights = run
    written = load_checkpoint_safely(work_dir / "iter_6.pth")
    for name, raw in weights.kept[-1].items():
        mean = torch.stack([each[name] for each in weights.kept[3:]]).mean(dim=0)
        torch.testing.assert_close(written["state_dict"][name], mean)
        torch.testing.assert_close(weights.validated[1][name], mean)
        torch.testing.assert_close(written["ema_state_dict"]["module." + name], raw)
        torch.testing.assert_close(weights.validated[0][name], weights.kept[2][name])
    moved = "backbone.layer1.0.conv1.weight"
    assert torch.dist(written["state_dict"][moved], weights.kept[-1][moved]) > 1e-3


def test_batch_norm_is_that_of_the_mean_on_the_first_training_batches(
    run, repository, tiny_dataset
):
    """Measured by torch's own function on the written weights."""
    work_dir, weights = run
    written = load_checkpoint_safely(work_dir / "iter_6.pth")["state_dict"]
    cfg = config(repository, tiny_dataset, work_dir)
    init_default_scope("pe_unified")
    model = MODELS.build(cfg.model)
    model.load_state_dict(written)
    loader = PERunner.build_dataloader(cfg.train_dataloader, seed=0)
    batches = [
        model.data_preprocessor(batch)["inputs"] for batch in itertools.islice(loader, BATCHES)
    ]
    torch.optim.swa_utils.update_bn(batches, model)
    norms = [name for name in written if name.endswith(("running_mean", "running_var"))]
    assert norms
    for name in norms:
        torch.testing.assert_close(written[name], model.state_dict()[name], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(weights.validated[1][name], written[name])


def test_a_resumed_run_is_bit_equal(run, repository, tiny_dataset, tmp_path):
    """From the first averaged weights on."""
    work_dir, _ = run
    shutil.copy(work_dir / "iter_4.pth", tmp_path)
    cfg = config(repository, tiny_dataset, tmp_path)
    cfg.resume = True
    PERunner.from_cfg(cfg).train()
    one, other = (load_checkpoint_safely(folder / "iter_6.pth") for folder in (work_dir, tmp_path))
    for part in ("state_dict", "ema_state_dict"):
        assert one[part].keys() == other[part].keys()
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])
    assert one["meta"]["validated"] == other["meta"]["validated"]


def test_the_mean_is_published(run, repository, tiny_dataset, tmp_path):
    work_dir, weights = run
    cfg = config(repository, tiny_dataset, tmp_path)
    publish.publish(cfg, work_dir / "iter_6.pth", tmp_path / "model.pth")
    published = load_checkpoint_safely(tmp_path / "model.pth")["state_dict"]
    name = "backbone.layer1.0.conv1.weight"
    mean = torch.stack([each[name] for each in weights.kept[3:]]).mean(dim=0)
    torch.testing.assert_close(published[name], mean)


def test_the_rate_falls_to_a_part_and_stays(repository):
    settings = {
        "swa_share": 0.4,
        "swa_lr_ratio": 0.3,
        "max_iters": 50,
        "warmup_iters": 5,
        "lr": 0.5,
    }
    cfg = load_config(repository / "configs/pe_seg_r50.py", settings)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedulers = [
        PARAM_SCHEDULERS.build({**each, "optimizer": optimizer}) for each in cfg.param_scheduler
    ]
    rates = []
    for _ in range(50):
        rates.append(optimizer.param_groups[0]["lr"])
        for scheduler in schedulers:
            scheduler.step()
    assert max(rates) == pytest.approx(0.5) and rates[20] > 0.2
    assert rates[30:] == pytest.approx([0.15] * 20, rel=0.02)
    assert cfg.default_hooks.average == dict(type="SWAHook", share=0.4)


def test_the_average_is_a_running_one_unless_told_otherwise(repository):
    cfg = load_config(repository / "configs/pe_seg_r50.py")
    assert cfg.default_hooks.average.type == "EMAHook"
    assert cfg.param_scheduler[-1].end == cfg.max_iters


def test_two_shares_are_refused(repository):
    settings = {"swa_share": 0.4, "default_hooks.average.share": 0.2}
    with pytest.raises(ConfigError, match="share"):
        load_config(repository / "configs/ablations/seg_r50_swa.py", settings)


@pytest.mark.parametrize("options", [dict(share=0.0), dict(share=1.5), dict(batches=0)])
def test_what_is_no_share_is_refused(options):
    with pytest.raises(ValueError, match="share must be"):
        SWAHook(**options)
