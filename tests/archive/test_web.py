"""What an archive answers by DICOMweb."""

from types import SimpleNamespace

import pytest
import requests

from pe_unified.archive import web
from pe_unified.archive.errors import NotThere
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


def test_what_one_archive_does_not_have_is_fetched_from_the_next(monkeypatch):
    asked = []

    def client_of(settings):
        def iter_series(study, series, media_types):
            asked.append(settings.url)
            if settings.url == "http://one":
                raise requests.HTTPError(response=SimpleNamespace(status_code=404))
            return []

        return SimpleNamespace(iter_series=iter_series)

    monkeypatch.setattr(web, "client_of", client_of)
    monkeypatch.setattr(web, "_missing", lambda *_: [("1.3", "1.4")])
    polls = [Poll(name, WebService(f"http://{name}"), 30.0, 2) for name in ("one", "two")]
    with pytest.raises(NotThere, match="status 404"):
        web.fetch(polls, None, None, {"uid": "1.2"})
    assert asked == ["http://one", "http://two"]
