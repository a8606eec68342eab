"""A server of the reader's screen in this process, and what asks it."""

import http.client
import json
from contextlib import contextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit

from pe_unified.serve.app import ServeOptions, make_app
from pe_unified.serve.images import ImageCache
from pe_unified.serve.server import running

OWN = {"X-PE-Unified": "1", "Content-Type": "application/json"}


def ask(url, path, method="GET", body=None, **headers):
    """Status, headers and body of an answer; nothing of the path is mended on the way."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, sent)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return SimpleNamespace(
        status=answer.status,
        headers=answer.headers,
        body=content,
        json=json.loads(content) if "json" in (answer.headers["content-type"] or "") else None,
    )


@contextmanager
def serving(reports, **options):
    with (
        ImageCache() as images,
        running(make_app(ServeOptions(reports, **options), images)) as url,
    ):
        yield url
