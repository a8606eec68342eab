"""What an archive answers by DICOMweb."""

import pytest

from pe_unified.archive import web
from pe_unified.archive.settings import Poll, WebService
from pe_unified.archive.spool import Spool
from pe_unified.archive.store import Store


class Archive:
    """Of five studies; gives ``most`` per answer, and may know no offset."""

    def __init__(self, most, knows_offset):
        self.most, self.knows_offset = most, knows_offset
        self.looked_at = []

    def search_for_studies(self, offset, limit, **_):
        first = offset if self.knows_offset else 0
        numbers = range(5)[first : first + min(limit, self.most)]
        return [{"0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]}} for number in numbers]

    def search_for_series(self, study, **_):
        self.looked_at.append(study)
        return []


@pytest.mark.parametrize(("most", "knows_offset"), [(5, True), (2, True), (5, False)])
def test_every_study_is_seen_once(tmp_path, monkeypatch, most, knows_offset):
    archive = Archive(most, knows_offset)
    monkeypatch.setattr(web, "client_of", lambda settings: archive)
    store = Store(tmp_path / "queue.sqlite")
    poll = Poll("archive", WebService("http://localhost"), 30.0, 2)
    assert web.Poller(poll, Spool(tmp_path / "pacs"), store).look() == 0
    store.close()
    assert archive.looked_at == [f"1.2.{number}" for number in range(5)]
