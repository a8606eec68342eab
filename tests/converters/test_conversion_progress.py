import pytest

from pe_unified.converters.pipeline import slice_rate as progress
from pe_unified.converters.pipeline.slice_rate import ConversionProgress


@pytest.fixture
def told(monkeypatch):
    calls = []
    now = iter(range(0, 1000, 2))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(progress, "tell", lambda *call: calls.append(call))
    return calls


def test_patients_slices_and_their_rate_are_told(told):
    with ConversionProgress("fumpe", total=4) as bar:
        bar.slices_done(30)
        bar.patient_done()
    title = "fumpe, patients"
    assert told == [
        (title, 0, 4, "0 slices, 0 slices/s"),
        (title, 0, 4, "30 slices, 8 slices/s"),
        (title, 1, 4, "30 slices, 5 slices/s"),
    ]
