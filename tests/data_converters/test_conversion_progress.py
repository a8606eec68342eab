import pytest

from data_converters.core import progress
from data_converters.core.progress import ConversionProgress


@pytest.fixture(autouse=True)
def lines_at_once(monkeypatch):
    monkeypatch.setattr(progress, "_LOG_EVERY", 0.0)


def test_a_log_file_gets_lines_with_a_rate(capsys, monkeypatch):
    now = iter(range(0, 1000, 2))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    with ConversionProgress("fumpe", total=4) as bar:
        bar.slices_done(30)
        bar.patient_done()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("fumpe: 0 of 4 patients, 30 slices, ")
    assert lines[1].startswith("fumpe: 1 of 4 patients, 30 slices, ")
    rates = [float(line.split()[-2]) for line in lines]
    assert lines[0].endswith("slices/s") and rates[0] > rates[1] > 0


def test_quiet_is_quiet(capsys):
    with ConversionProgress("fumpe", total=4, quiet=True) as bar:
        bar.slices_done(30)
        bar.patient_done()
        bar.say("word")
    assert not capsys.readouterr().err
