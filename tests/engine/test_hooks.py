from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from tiny_run import small_config

from pe_unified.checkpoints import load_checkpoint_safely, newest_checkpoint
from pe_unified.engine import ConfigError, PERunner, WholeCheckpointHook
from pe_unified.engine.evaluate import evaluate_checkpoint


class BreakLoss(Hook):
    """Poisons the weights, so that the next loss is not a number."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 1:
            with torch.no_grad():
                runner.model.cls_head.fc.weight.fill_(float("nan"))


def test_nan_stops_the_run_and_names_the_files(repository, tiny_dataset, tmp_path):
    cfg = small_config(repository, tiny_dataset, tmp_path, task="cls", max_iters=5)
    cfg.default_hooks.checkpoint.interval = 1
    runner = PERunner.from_cfg(cfg)
    runner.register_hook(BreakLoss(), priority="LOWEST")
    with pytest.raises(FloatingPointError, match=r"iteration 3.*nan[\s\S]*PAT00\d/\d{4}\.png"):
        runner.train()
    assert sorted(path.name for path in tmp_path.glob("iter_*")) == ["iter_1.pth", "iter_2.pth"]


class BreakGradients(Hook):
    """In the second iteration the loss is a number and a gradient is none."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 1:
            runner.model.cls_head.fc.weight.register_hook(lambda grad: grad * float("inf"))


@pytest.mark.parametrize("val_interval", [1000, 2])
def test_broken_weights_are_not_written(repository, tiny_dataset, tmp_path, val_interval):
    """The loss of this iteration was finite: only the weights tell."""
    cfg = small_config(repository, tiny_dataset, tmp_path, task="cls", max_iters=4)
    cfg.default_hooks.checkpoint.update(interval=1, save_best="cls/auc")
    cfg.train_cfg.val_interval = val_interval
    runner = PERunner.from_cfg(cfg)
    runner.register_hook(BreakGradients())
    with pytest.raises(FloatingPointError, match=r"iteration 2: \d+ tensors[\s\S]*PAT00\d/\d{4}"):
        runner.train()
    assert [path.name for path in tmp_path.glob("*.pth")] == ["iter_1.pth"]


@pytest.fixture
def stopped(repository, tiny_dataset, tmp_path):
    """The config of a run that stopped early, and its newest checkpoint."""
    cfg = small_config(repository, tiny_dataset, tmp_path, task="cls", max_iters=9)
    cfg.default_hooks.checkpoint.interval = 3
    cfg.train_cfg.val_interval = 2
    stop = dict(type="EarlyStoppingHook", monitor="cls/auc", rule="greater", patience=1)
    cfg.custom_hooks = [dict(**stop, min_delta=2.0)]
    runner = PERunner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 4
    return cfg, newest_checkpoint(tmp_path)


def test_a_run_that_stops_early_keeps_its_last_weights(stopped):
    _, newest = stopped
    assert newest is not None and newest.endswith("iter_4.pth")
    assert load_checkpoint_safely(newest)["meta"]["validated"]["cls/threshold"] > 0


def test_what_stopped_early_can_be_tested_and_goes_on_only_without_the_hook(stopped):
    cfg, newest = stopped
    evaluation = evaluate_checkpoint(cfg, newest)
    assert 0 <= evaluation.metrics["cls/auc"] <= 1
    cfg.resume = True  # it was stopped, not interrupted
    again = PERunner.from_cfg(cfg)
    again.train()
    assert again.iter == 4
    cfg.custom_hooks = []
    longer = PERunner.from_cfg(cfg)
    longer.train()
    assert longer.iter == 9


def test_without_validation_there_are_no_thresholds(repository, tiny_dataset, tmp_path):
    cfg = small_config(repository, tiny_dataset, tmp_path, task="cls", max_iters=2)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    PERunner.from_cfg(cfg).train()
    with pytest.raises(ConfigError, match="no validation chooses the threshold of SliceMetric"):
        evaluate_checkpoint(cfg, tmp_path / "iter_2.pth")


def test_best_metric_must_exist(repository, tiny_dataset, tmp_path):
    cfg = small_config(repository, tiny_dataset, tmp_path, task="cls", max_iters=1)
    cfg.default_hooks.checkpoint.save_best = "seg/dice"
    with pytest.raises(ConfigError, match="cls/auc"):
        PERunner.from_cfg(cfg).train()
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.parametrize(("metric", "sign"), [("cls/auc", 1), ("exam/brier", -1)])
def test_the_best_is_the_best_value_of_all_validations(tmp_path, metric, sign):
    written = []
    runner = SimpleNamespace(
        best=None,
        max_iters=99,
        optim_wrapper=None,
        work_dir=str(tmp_path),
        _train_loop=object(),
        save_checkpoint=lambda folder, name, meta, **kwargs: written.append((name, meta["iter"])),
    )
    hook = WholeCheckpointHook(interval=50, save_best=metric)
    for runner.iter, value in enumerate([0.6, 0.8, float("nan"), 0.7, 0.9], start=1):
        hook.after_val_epoch(runner, {metric: sign * value})
    assert written == [("best.pth", 1), ("best.pth", 2), ("best.pth", 5)]


def test_no_checkpoint_between_two_updates_of_the_weights(repository, tiny_dataset, tmp_path):
    cfg = small_config(repository, tiny_dataset, tmp_path, task="cls", max_iters=8, accumulate=2)
    cfg.default_hooks.checkpoint.update(interval=3, max_keep=9)
    PERunner.from_cfg(cfg).train()
    names = {path.name for path in tmp_path.glob("iter_*")}
    assert names == {"iter_4.pth", "iter_8.pth"}
