import pytest
from tiny_run import small_config

from pe_unified.engine import PERunner
from pe_unified.engine.evaluate import evaluate_checkpoint
from pe_unified.progress import show_progress_by


class Shown:
    def __init__(self):
        self.calls = []

    def show(self, title, done, total, state):
        self.calls.append((done, total, state))

    def drop(self, title):
        self.calls.append(None)

    def say(self, line):
        pass


@pytest.fixture
def shown():
    display = Shown()
    before = show_progress_by(display)
    yield display.calls
    show_progress_by(before)


def test_a_run_tells_how_far_it_is(repository, tiny_dataset, tmp_path, shown):
    overrides = {"max_iters": 4, "train_cfg.val_interval": 2}
    cfg = small_config(repository, tiny_dataset, tmp_path, "cls", **overrides)
    cfg.val_dataloader.batch_size = 6  # 2 patients of 6 slices
    PERunner.from_cfg(cfg).train()
    assert shown.pop() is None
    assert {total for _, total, _ in shown} == {4}
    steps = [(done, state.split(" ")[0].rstrip(",")) for done, _, state in shown]
    assert steps == [
        *((0, ""), (1, "loss"), (2, "loss"), (2, "validating"), (2, "computing")),
        *((3, "loss"), (4, "loss"), (4, "validating"), (4, "computing")),
    ]
    losses = [float(state.split(" ")[1]) for *_, state in shown if state.startswith("loss")]
    assert all(loss > 0 for loss in losses)
    shown.clear()
    cfg.test_dataloader.batch_size = 6
    evaluate_checkpoint(cfg, tmp_path / "iter_4.pth")
    assert shown[:3] == [(1, 3, "testing"), (2, 3, "testing"), (3, 3, "computing metrics")]
