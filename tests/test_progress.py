import io

import pytest
from rich.console import Console

from pe_unified.progress import (
    ProgressBars,
    duration,
    phase,
    quietly,
    say,
    show_progress_by,
    tell,
    track,
)


@pytest.fixture
def log():
    """The lines of a log, written when the test asks for them; time passes only by hand."""
    bars = Log()
    before = show_progress_by(bars)
    yield bars
    show_progress_by(before)
    bars.stop()


class Log(ProgressBars):
    def __init__(self):
        self.now = 0.0
        super().__init__(Console(file=io.StringIO(), width=200))
        self.progress.get_time = lambda: self.now

    def _start(self):
        """Without the thread that writes by the clock."""

    def after(self, seconds):
        """The lines written when so much time has passed since the last."""
        before = len(self.console.file.getvalue())
        self.now += seconds
        self.write_lines()
        return self.console.file.getvalue()[before:].splitlines()


def test_a_log_has_lines_often_at_first_with_the_time_left(log):
    tell("s1_cls", 0, 1000)
    assert log.after(1) == []  # the quick leaves no line
    tell("s1_cls", 10, 1000, "loss 0.70")
    assert log.after(2) == ["s1_cls: 10 of 1000, loss 0.70"]
    tell("s1_cls", 20, 1000, "loss 0.60")
    assert log.after(5) == ["s1_cls: 20 of 1000, loss 0.60, 3 min left"]
    when = [second for second in range(9, 120) if log.after(1)]
    assert when == [13, 18, 23, 28, 33, 63, 93]  # every 5 s at first, then every 30 s


def test_what_has_no_number_is_told_with_its_age(log):
    with phase("comparing"):
        assert log.after(100) == ["comparing: for 2 min"]
    assert log.after(100) == []
    told = [log.after(4) for _ in track("abcd", "reading")]
    assert told == [["reading: 0 of 4"], [], ["reading: 2 of 4, 8 s left"], []]
    assert log.after(100) == []


def test_nothing_is_shown_where_nobody_asks(log, capsys):
    with quietly():
        tell("a", 1, 2)
        say("line")
    assert log.after(100) == []
    show_progress_by(None)
    tell("a", 1, 2)
    say("line")
    assert capsys.readouterr() == ("", "")


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
    bars.progress.refresh()
    last = screen.getvalue()[start:]
    bars.stop()
    assert "60/60" in last and "s1_cls" not in last[last.rindex("s2_seg") :]


def test_durations_in_words():
    told = [duration(seconds) for seconds in (4.4, 90, 3599, 12000)]
    assert told == ["4 s", "2 min", "1 h 0 min", "3 h 20 min"]
