import io

import pytest
from rich.console import Console
from tiny_run import small_config

from pe_unified.engine import PERunner
from pe_unified.engine.progress import ProgressBars, show_progress_by


@pytest.fixture
def shown():
    calls = []
    show_progress_by(lambda *call: calls.append(call))
    yield calls
    show_progress_by(None)


def test_a_run_tells_how_far_it_is(repository, tiny_dataset, tmp_path, shown):
    overrides = {"max_iters": 4, "train_cfg.val_interval": 2}
    PERunner.from_cfg(small_config(repository, tiny_dataset, tmp_path, "cls", **overrides)).train()
    steps = [(done, state.split(" ")[0]) for _, done, _, state in shown]
    assert steps == [
        *((0, ""), (1, "loss"), (2, "loss"), (2, "validating")),
        *((3, "loss"), (4, "loss"), (4, "validating")),
    ]
    assert {total for _, _, total, _ in shown} == {4}
    losses = [float(state.split(" ")[1]) for *_, state in shown if state.startswith("loss")]
    assert all(loss > 0 for loss in losses)


def test_bars_are_drawn_and_taken_away():
    screen = io.StringIO()
    bars = ProgressBars(Console(file=screen, force_terminal=True, width=120))
    bars.show("s1_cls", 0, 200)
    bars.show("s2_seg", 3, 60, "loss 0.700")
    bars.progress.refresh()
    drawn = screen.getvalue()
    assert "s1_cls" in drawn and "3/60" in drawn and "loss 0.700" in drawn
    bars.drop("s1_cls")
    bars.drop("never there")
    start = len(drawn)
    bars.show("s2_seg", 60, 60, "loss 0.100")
    bars.stop()
    last = screen.getvalue()[start:]
    assert "60/60" in last and "s1_cls" not in last[last.rindex("s2_seg") :]


def test_nothing_is_drawn_where_nobody_watches(capsys):
    bars = ProgressBars()
    bars.show("s1_cls", 1, 2)
    bars.stop()
    assert "s1_cls" not in capsys.readouterr().out
