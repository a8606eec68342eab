"""A training as long as a time: what is measured, how long the schedule is, what resuming keeps."""

import copy

import pytest
from tiny_run import small_config

from pe_unified.engine import PERunner
from pe_unified.engine import pace as pace_module
from pe_unified.engine.pace import Pace, fit_into, of_length, pace_of


@pytest.fixture
def cfg(repository, tiny_dataset, tmp_path):
    return small_config(repository, tiny_dataset, tmp_path / "run", "cls")


@pytest.fixture
def half_a_second(monkeypatch):
    monkeypatch.setattr(
        pace_module, "pace_of", lambda cfg: Pace(iteration=0.7, waiting=0.1, typical=0.5)
    )


def test_the_trial_measures_and_leaves_no_trace(cfg, tmp_path):
    before = copy.deepcopy(cfg.to_dict())
    pace = pace_of(cfg, warmup=1, iterations=2)
    assert 0 < pace.waiting < pace.iteration
    assert cfg.to_dict() == before
    assert not list(tmp_path.iterdir())


def test_a_busy_moment_moves_the_mean_and_not_the_typical_iteration(cfg, monkeypatch):
    times = iter([9.0, 1.0, 10.0, 1.0])

    def timed(stopwatch, runner, batch_idx, data_batch=None, outputs=None):
        seconds = next(times)
        if batch_idx >= stopwatch.warmup:
            stopwatch.iterations.append(seconds)
            stopwatch.waits.append(0.5)

    monkeypatch.setattr(pace_module._Stopwatch, "after_train_iter", timed)
    assert pace_of(cfg, warmup=1, iterations=3) == Pace(iteration=4.0, waiting=0.5, typical=1.0)


def test_warm_up_keeps_its_share(cfg):
    cfg.max_iters, cfg.warmup_iters = 1000, 100
    assert of_length(cfg, 500) == {"max_iters": 500, "warmup_iters": 50}


def test_iterations_fill_the_minutes_and_the_schedule_ends_with_them(cfg, half_a_second):
    cfg.max_iters, cfg.warmup_iters = 1000, 100
    fit_into(cfg, minutes=2.0)
    assert cfg.train_cfg.max_iters == 240
    warmup, decay = cfg.param_scheduler
    assert (warmup.end, decay.begin, decay.end, decay.T_max) == (24, 24, 240, 216)
    assert cfg.train_cfg.val_interval <= 240
    assert cfg.default_hooks.checkpoint.interval == 24


def test_a_resumed_run_keeps_its_length(cfg, half_a_second, monkeypatch):
    fit_into(cfg, minutes=3 / 120)
    PERunner.from_cfg(cfg).train()
    monkeypatch.setattr(
        pace_module, "pace_of", lambda cfg: Pace(iteration=0.001, waiting=0.0, typical=0.001)
    )
    cfg.resume = True
    fit_into(cfg, minutes=1.0)
    assert cfg.train_cfg.max_iters == 3
