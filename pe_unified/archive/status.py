"""Serves the status page, ``/health`` and ``/metrics``."""

import datetime
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from pe_unified.archive import overview
from pe_unified.archive.database import Row
from pe_unified.archive.errors import port_not_available
from pe_unified.archive.metrics import Metrics
from pe_unified.archive.settings import StatusPage
from pe_unified.archive.store import STATES, Store
from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.progress import duration
from pe_unified.templates import render
from pe_unified.version import __version__

#: Maximum number of studies on the page.
_SHOWN = 100
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Told(Protocol):
    """Provides health, metrics and queue; implemented by the service."""

    store: Store
    metrics: Metrics

    def health(self) -> tuple[bool, dict[str, Any]]: ...


class StatusServer:
    """Serves the pages from a thread.

    Raises:
        ArchiveError: the port is not available.
    """

    def __init__(self, settings: StatusPage, told: Told) -> None:
        class Handler(_Handler):
            service = told

        try:
            self._server = ThreadingHTTPServer((settings.host, settings.port), Handler)
        except OSError as error:
            where = f"port {settings.port} on {settings.host}"
            raise port_not_available(where, error, "status") from error
        self._server.daemon_threads = True
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.1,), name="status", daemon=True).start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def page(told: Told) -> str:
    """The page as HTML; studies appear under their pseudonyms."""
    well, health = told.health()
    return render(
        "archive/status.html",
        well=well,
        health=health,
        states=STATES,
        studies=[_shown(row) for row in overview.recent(told.store, _SHOWN)],
        waiting=overview.waiting_results(told.store),
        now=moment(told.store.clock()),
        research=RESEARCH_LINE,
        version=__version__,
    )


def _shown(row: Row) -> dict[str, Any]:
    took = "" if row["seconds"] is None else duration(row["seconds"])
    return {**row, "came": moment(row["received"]), "took": took}


def moment(seconds: float) -> str:
    """A date and time in this machine's time zone; ``seconds`` since 1970."""
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


class _Handler(BaseHTTPRequestHandler):
    service: Told

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer(200, "text/html; charset=utf-8", page(self.service).encode())
        elif self.path == "/health":
            well, told = self.service.health()
            self._answer(200 if well else 503, "application/json", json.dumps(told).encode())
        elif self.path == "/metrics":
            self._answer(200, _PROMETHEUS, self.service.metrics.text())
        else:
            self._answer(404, "text/plain", b"there are /, /health and /metrics\n")

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: monitoring requests arrive every few seconds."""
