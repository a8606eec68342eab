import copy
import multiprocessing
import os
import shutil
import signal
import time

import pytest
import torch
from killed_run import train_until
from mmengine.hooks import Hook
from tiny_run import small_config

from pe_unified.checkpoints import load_checkpoint_safely, newest_checkpoint, save_atomically
from pe_unified.engine import PERunner
from pe_unified.engine.evaluate import evaluate_checkpoint
from pe_unified.errors import CheckpointError
from pe_unified.json_files import as_json
from pe_unified.models.weights import ReuseError

EVERY_TWO = {
    "max_iters": 6,
    "default_hooks.checkpoint.interval": 2,
    "train_cfg.val_interval": 3,
    "default_hooks.checkpoint.save_best": "seg/dice",
}

EVERY_TWO_CLS = {**EVERY_TWO, "default_hooks.checkpoint.save_best": None}


def train(cfg):
    runner = PERunner.from_cfg(cfg)
    runner.train()
    return runner


def states_equal(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def undisturbed(repository, tiny_dataset, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("undisturbed")
    runner = train(small_config(repository, tiny_dataset, work_dir, **EVERY_TWO))
    return work_dir, runner


def test_checkpoint_says_what_it_is(undisturbed):
    work_dir, _ = undisturbed
    checkpoint = load_checkpoint_safely(work_dir / "iter_6.pth")
    meta = checkpoint["meta"]
    assert meta["iter"] == 6 and meta["seed"] == 0
    assert meta["cfg"]["model"]["type"] == "PEUnified"
    assert meta["parents"] == []
    assert {"cls/threshold", "seg/threshold", "det/threshold"} <= set(meta["validated"])


def test_only_the_newest_are_kept(undisturbed):
    work_dir, _ = undisturbed
    names = {path.name for path in work_dir.glob("*.pth")}
    assert names == {"iter_4.pth", "iter_6.pth", "best.pth"}


class Stopped(BaseException):
    """No code catches it."""


class Stop(Hook):
    """Raises after five iterations, before any other hook hears of the fifth."""

    priority = "HIGHEST"

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx + 1 == 5:
            raise Stopped


def test_stopped_and_resumed_equals_undisturbed(undisturbed, repository, tiny_dataset, tmp_path):
    runner = PERunner.from_cfg(small_config(repository, tiny_dataset, tmp_path, **EVERY_TWO))
    runner.register_hook(Stop())
    with pytest.raises(Stopped):
        runner.train()
    assert newest_checkpoint(tmp_path).endswith("iter_4.pth")
    resumed_equals_undisturbed(repository, tiny_dataset, tmp_path, undisturbed)


@pytest.mark.slow
def test_killed_and_resumed_equals_undisturbed(undisturbed, repository, tiny_dataset, tmp_path):
    process = multiprocessing.get_context("forkserver").Process(
        target=train_until, args=(3, repository, tiny_dataset, tmp_path, EVERY_TWO)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert newest_checkpoint(tmp_path).endswith("iter_2.pth")
    resumed_equals_undisturbed(repository, tiny_dataset, tmp_path, undisturbed)


def resumed_equals_undisturbed(repository, tiny_dataset, work_dir, undisturbed):
    cfg = small_config(repository, tiny_dataset, work_dir, **EVERY_TWO)
    cfg.resume = True
    runner = train(cfg)
    reference_dir, reference = undisturbed
    resumed = load_checkpoint_safely(work_dir / "iter_6.pth")
    expected = load_checkpoint_safely(reference_dir / "iter_6.pth")
    assert states_equal(resumed["state_dict"], expected["state_dict"])
    assert states_equal(resumed["ema_state_dict"], expected["ema_state_dict"])
    assert as_json(runner.validated) == as_json(reference.validated)
    assert runner.best == reference.best


class Averages(Hook):
    """Averages one layer by hand, and looks at what is validated."""

    priority = "LOWEST"
    momentum, gamma = 0.002, 10

    def __init__(self):
        self.raw, self.average, self.steps, self.validated = None, None, 0, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.raw = runner.model.state_dict()[LAYER].clone()
        share = max(self.momentum, self.gamma / (self.gamma + self.steps)) if self.steps else 1.0
        before = 0.0 if self.average is None else self.average
        self.average = (1 - share) * before + share * self.raw
        self.steps += 1

    def before_val_epoch(self, runner):
        self.validated.append(torch.dist(runner.model.state_dict()[LAYER], self.average))


LAYER = "backbone.layer1.0.conv1.weight"


def test_averaged_weights_are_validated_and_handed_on(repository, tiny_dataset, tmp_path):
    cfg = small_config(repository, tiny_dataset, tmp_path, "cls", lr=0.05, **EVERY_TWO_CLS)
    runner = PERunner.from_cfg(cfg)
    averages = Averages()
    runner.register_hook(averages)
    runner.train()
    written = load_checkpoint_safely(tmp_path / "iter_6.pth")
    torch.testing.assert_close(written["state_dict"][LAYER], averages.average)
    torch.testing.assert_close(written["ema_state_dict"]["module." + LAYER], averages.raw)
    assert torch.dist(averages.average, averages.raw) > 1e-3
    assert len(averages.validated) == 2 and max(averages.validated) < 1e-5


def test_curves_are_drawn_by_tensorboard(repository, tiny_dataset, tmp_path):
    event_files = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    cfg = small_config(
        repository,
        tiny_dataset,
        tmp_path,
        "cls",
        vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
        **{"default_hooks.logger.interval": 1},
    )
    train(cfg)
    (folder,) = {path.parent for path in tmp_path.rglob("events.out.tfevents*")}
    curves = event_files.EventAccumulator(str(folder)).Reload()
    assert [point.step for point in curves.Scalars("loss")] == [1, 2, 3, 4, 5, 6]


def test_thresholds_belong_to_the_weights_that_were_validated(undisturbed):
    """Validation fell on 3 and 6, checkpoints on 2, 4 and 6."""
    work_dir, _ = undisturbed
    assert load_checkpoint_safely(work_dir / "iter_4.pth")["meta"]["validated"] == {}
    assert load_checkpoint_safely(work_dir / "iter_6.pth")["meta"]["validated"]


def test_a_used_work_dir_is_refused(undisturbed, command, tiny_dataset):
    """Its checkpoints would crowd out those of a new run."""
    work_dir, _ = undisturbed
    places = ["--data-root", tiny_dataset, "--work-dir", work_dir]
    done = command("train", "configs/pe_cls_r50.py", *places)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "iter_6.pth of an earlier run" in done.stderr
    assert "--resume" in done.stderr


def test_runs_of_one_second_have_logs_of_their_own(repository, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1.7e9)
    names = [tmp_path / name for name in "ab"]
    one, other = (
        PERunner.from_cfg(small_config(repository, tiny_dataset, name, task="cls"))
        for name in names
    )
    assert one.experiment_name != other.experiment_name
    assert one.visualizer is not other.visualizer and one.logger is not other.logger


def test_resuming_with_other_settings_is_told(repository, tiny_dataset, tmp_path):
    train(small_config(repository, tiny_dataset, tmp_path, task="cls", max_iters=2))
    cfg = small_config(repository, tiny_dataset, tmp_path, task="cls", max_iters=3, lr=0.5)
    cfg.resume = True
    train(cfg)
    log = max(tmp_path.glob("*/*.log"), key=os.path.getmtime).read_text()
    assert "lr was 0.001, is 0.5" in log and "max_iters was 2, is 3" in log


def test_resume_with_nothing_to_resume_starts_anew(repository, tiny_dataset, tmp_path):
    cfg = small_config(repository, tiny_dataset, tmp_path, task="cls", max_iters=1)
    cfg.resume = True
    assert train(cfg).iter == 1


class FirstIteration(Hook):
    """Remembers where training began, and with which weights."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if not hasattr(self, "number"):
            self.number = batch_idx
            self.weight = runner.model.cls_head.fc.weight.detach().clone()


def test_resume_prefers_its_own_checkpoint_to_load_from(repository, tiny_dataset, tmp_path):
    """``load_from`` gives weights to a run that has nothing to go on from; it is not resumed."""
    work_dir, given = tmp_path / "run", tmp_path / "other/iter_2.pth"
    train(small_config(repository, tiny_dataset, given.parent, task="cls", max_iters=2))
    stored = load_checkpoint_safely(given)
    for iterations, begun in ((2, 0), (3, 2)):
        cfg = small_config(repository, tiny_dataset, work_dir, task="cls", max_iters=iterations)
        cfg.merge_from_dict(dict(load_from=str(given), resume=True))
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        first = FirstIteration()
        runner = PERunner.from_cfg(cfg)
        runner.register_hook(first)
        runner.train()
        assert first.number == begun
        same = torch.equal(first.weight, stored["state_dict"]["cls_head.fc.weight"])
        assert same == (begun == 0)
    # Nor are the thresholds of the given weights its own.
    assert stored["meta"]["validated"]
    assert load_checkpoint_safely(work_dir / "iter_2.pth")["meta"]["validated"] == {}


def test_random_state_of_another_number_of_processes_is_told(repository, tiny_dataset, tmp_path):
    train(small_config(repository, tiny_dataset, tmp_path, task="cls", max_iters=1))
    checkpoint = load_checkpoint_safely(tmp_path / "iter_1.pth")
    checkpoint["random_state"] *= 2
    save_atomically(checkpoint, tmp_path / "iter_1.pth")
    cfg = small_config(repository, tiny_dataset, tmp_path, task="cls", max_iters=2)
    cfg.resume = True
    assert train(cfg).iter == 2
    log = max(tmp_path.glob("*/*.log"), key=os.path.getmtime).read_text()
    assert "random state of a run that did not have" in log


def test_reuse_is_recorded(undisturbed, repository, tiny_dataset, tmp_path):
    work_dir, _ = undisturbed
    cfg = small_config(repository, tiny_dataset, tmp_path, task="seg", max_iters=1)
    cfg.reuse = dict(backbone=["s1_cls", str(work_dir / "iter_6.pth")])
    runner = train(cfg)
    (parent,) = runner.parents
    assert parent["module"] == "backbone" and parent["from"] == "s1_cls"
    assert parent["tensors"] == parent["total"] > 0
    meta = load_checkpoint_safely(tmp_path / "iter_1.pth")["meta"]
    assert meta["parents"] == runner.parents


def test_training_starts_from_what_is_reused(undisturbed, repository, tiny_dataset, tmp_path):
    source = undisturbed[0] / "iter_6.pth"
    cfg = small_config(repository, tiny_dataset, tmp_path, task="seg", max_iters=1, lr=0.0)
    cfg.reuse = dict(backbone=str(source))
    train(cfg)
    before = load_checkpoint_safely(source)["state_dict"]
    after = load_checkpoint_safely(tmp_path / "iter_1.pth")["state_dict"]
    learnt = [name for name in before if name.startswith("backbone.") and name.endswith("weight")]
    assert learnt and all(after[name].equal(before[name]) for name in learnt)


def test_going_on_needs_nothing_that_it_started_from(
    undisturbed, repository, tiny_dataset, tmp_path
):
    """Its own checkpoint holds what was reused; the file it came from may be gone."""
    source = tmp_path / "source.pth"
    shutil.copy(undisturbed[0] / "iter_6.pth", source)
    cfg = small_config(repository, tiny_dataset, tmp_path / "run", task="cls", max_iters=2)
    cfg.reuse = {"backbone": str(source)}
    parents = train(cfg).parents
    source.unlink()
    again = small_config(repository, tiny_dataset, tmp_path / "run", task="cls", max_iters=3)
    again.reuse = {"backbone": str(source)}
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        train(copy.deepcopy(again))
    again.model.backbone.pretrained = str(source)
    again.resume = True
    assert train(again).parents == parents != []


def test_loading_weights_of_another_model_is_an_error(
    undisturbed, repository, tiny_dataset, tmp_path
):
    work_dir, _ = undisturbed
    cfg = small_config(repository, tiny_dataset, tmp_path, task="cls", max_iters=1)
    cfg.load_from = str(work_dir / "iter_6.pth")
    with pytest.raises(ReuseError, match=r"weights of .*iter_6\.pth do not fit.*seg_head"):
        train(cfg)


@pytest.mark.slow
def test_weights_alone_are_loaded_too(undisturbed, repository, tiny_dataset, tmp_path):
    work_dir, _ = undisturbed
    tensors = load_checkpoint_safely(work_dir / "iter_6.pth")["state_dict"]
    torch.save(tensors, tmp_path / "alone.pth")
    cfg = small_config(repository, tiny_dataset, tmp_path / "run")
    alone = evaluate_checkpoint(cfg, tmp_path / "alone.pth")
    whole = evaluate_checkpoint(cfg, work_dir / "iter_6.pth")
    assert as_json(alone.metrics) == as_json(whole.metrics)


def test_pickled_code_is_refused(repository, tiny_dataset, tmp_path):
    marker = tmp_path / "ran"
    evil = tmp_path / "evil.pth"

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    torch.save({"state_dict": Payload()}, evil)
    cfg = small_config(repository, tiny_dataset, tmp_path / "run", task="cls", max_iters=1)
    cfg.load_from = str(evil)
    with pytest.raises(CheckpointError, match="trust-checkpoint"):
        train(cfg)
    assert not marker.exists()


def test_workers_do_not_change_the_result(repository, tiny_dataset, tmp_path):
    weights = []
    for workers in (0, 2):
        cfg = small_config(
            repository,
            tiny_dataset,
            tmp_path / str(workers),
            task="cls",
            max_iters=3,
            num_workers=workers,
        )
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        train(cfg)
        assert not multiprocessing.active_children()
        weights.append(load_checkpoint_safely(tmp_path / f"{workers}/iter_3.pth")["state_dict"])
    assert states_equal(*weights)


def test_hooks_of_ones_own_are_added(repository, tiny_dataset, tmp_path):
    cfg = small_config(repository, tiny_dataset, tmp_path, "cls", max_iters=1)
    cfg.custom_hooks = [dict(type="EarlyStoppingHook", monitor="cls/auc")]
    cfg.default_hooks.progress = None
    kinds = {type(hook).__name__ for hook in PERunner.from_cfg(cfg).hooks}
    assert kinds >= {"EarlyStoppingHook", "EMAHook", "NaNGuardHook", "MeanBuffersHook"}
    assert "ProgressHook" not in kinds
