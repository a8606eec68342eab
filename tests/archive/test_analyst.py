"""The worker that takes studies from the queue."""

from types import SimpleNamespace

from pe_unified.archive import analyst
from pe_unified.archive.analyst import Analyst


def test_no_analysis_begins_once_the_service_ends(monkeypatch):
    asked = []
    study = {"uid": "1.2.3", "key": "abc", "rule": "CT", "source": "SCANNER"}
    settings = SimpleNamespace(send=(), poll=(), order="oldest")
    store = SimpleNamespace(take=lambda order: study)
    worker = Analyst(settings, store, SimpleNamespace(), asked.append)
    monkeypatch.setattr(worker, "_request", lambda study: study)
    monkeypatch.setattr(worker, "_note", lambda *_: None)

    def fetch(*_):
        worker.stopping = len(asked) == 1
        return 0

    monkeypatch.setattr(analyst, "fetch", fetch)
    assert worker.step() and worker.step()
    assert asked == [study]
