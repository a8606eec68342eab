import socketserver
import time

import pytest
from archive_parts import DicomArchive

from pe_unified.archive.backoff import Backoff
from pe_unified.archive.service import Service


@pytest.fixture(autouse=True)
def servers_end_soon(monkeypatch):
    monkeypatch.setattr(socketserver.BaseServer.serve_forever, "__defaults__", (0.1,))


@pytest.fixture
def archive():
    """A DICOM archive that takes everything."""
    made = DicomArchive()
    yield made
    made.server.shutdown()


@pytest.fixture
def serving(monkeypatch):
    """Starts services that hurry, which end with the test."""
    monkeypatch.setattr("pe_unified.archive.service.TICK_S", 0.02)
    monkeypatch.setattr("pe_unified.archive.service.PATIENCE", Backoff(0.05, 0.1))
    made = []

    def start(settings, run):
        made.append(Service(settings, run))
        made[-1].start()
        return made[-1]

    yield start
    for service in made:
        if not service.closed:
            service.close()


@pytest.fixture
def until():
    """Waits for something to happen."""

    def wait(happened, seconds=20.0):
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.02)

    return wait
