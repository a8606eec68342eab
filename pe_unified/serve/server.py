"""The server process: its socket, its address, its shutdown."""

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from pe_unified.errors import UserError


def listen(address: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        UserError: the port is taken or impossible, or the address does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        cure = "give an --address of this machine and a --port from 0 to 65535"
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            cure = "end what listens there, or try --port 0"
        raise UserError(f"cannot listen at {address}, port {port}: {why}; {cure}") from error


def make_server(app: Starlette, certificate: Path | None, key: Path | None) -> uvicorn.Server:
    """The server of an application, with TLS if there is a certificate.

    Raises:
        UserError: certificate or key cannot be used.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # URLs of studies must not appear in logs
        server_header=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_graceful_shutdown=2,
        lifespan="off",
    )
    try:
        config.load()
    except OSError as error:  # includes errors of the ssl module
        reason = error.strerror or error
        raise UserError(f"{certificate}, {key}: no usable pair for TLS ({reason})") from error
    return uvicorn.Server(config)


@contextmanager
def running(app: Starlette) -> Iterator[str]:
    """Serve the application in a thread, on a free port of this machine; yields its address."""
    place = listen("127.0.0.1", 0)
    server = make_server(app, None, None)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        place.close()
