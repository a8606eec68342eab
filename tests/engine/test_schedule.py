import pytest
from mmengine.hooks import Hook
from tiny_run import small_config

from pe_unified.engine import PERunner


class Rates(Hook):
    """Keeps the learning rate of every iteration."""

    def __init__(self):
        self.seen = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen[batch_idx] = [group["lr"] for group in runner.optim_wrapper.param_groups]


def rates(cfg):
    runner, hook = PERunner.from_cfg(cfg), Rates()
    runner.register_hook(hook)
    runner.train()
    return hook.seen


def test_a_longer_run_goes_on_with_the_schedule_of_its_length(repository, tiny_dataset, tmp_path):
    def cfg(folder, iterations):
        cfg = small_config(repository, tiny_dataset, tmp_path / folder, "cls", max_iters=iterations)
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        return cfg

    whole = rates(cfg("whole", 12))
    rates(cfg("short", 6))
    longer = cfg("short", 12)
    longer.resume = True
    resumed = rates(longer)
    assert list(resumed) == list(range(6, 12))
    for number, seen in resumed.items():
        assert seen == pytest.approx(whole[number])
    log = max((tmp_path / "short").glob("*/*.log")).read_text()
    assert "the schedule had 6 iterations and now has 12" in log
