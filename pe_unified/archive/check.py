"""Checks whether the settings work: model, folder, ports, archives."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from pe_unified.archive.errors import ArchiveError
from pe_unified.archive.nodes import TITLE, echo
from pe_unified.archive.settings import Destination, Settings, WebService
from pe_unified.archive.spool import Spool
from pe_unified.archive.web import client_of, reaching
from pe_unified.errors import UserError


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        what: the thing checked.
        said: what works.
        wrong: what is wrong and how to fix it; empty if all is well.
    """

    what: str
    said: str = ""
    wrong: str = ""


def check(settings: Settings) -> Iterator[Finding]:
    """Run all checks, one after the other; nothing is stored anywhere."""
    yield _tried("model", partial(_model, settings))
    yield _tried(f"folder {settings.folder}", partial(_folder, settings))
    ports = {"status": (settings.status.host, settings.status.port)}
    if settings.receive is not None:
        ports["receive"] = (settings.receive.host, settings.receive.port)
    for name, (host, port) in ports.items():
        yield _tried(f"{name}: port {port}", partial(_port, host, port))
    for poll in settings.poll:
        yield _tried(f"poll {poll.name}: QIDO at {poll.web.url}", partial(_qido, poll.web))
    for destination in settings.send:
        asked = "C-ECHO" if destination.dicom else "QIDO"
        title = settings.receive.ae_title if settings.receive else TITLE
        yield _tried(f"send {destination.name}: {asked}", partial(_destination, destination, title))


def _tried(what: str, trial: Callable[[], str]) -> Finding:
    try:
        return Finding(what, trial())
    except (UserError, OSError) as error:
        return Finding(what, wrong=str(error))


def _model(settings: Settings) -> str:
    from pe_unified.inference.predictor import PredictorSettings

    model = PredictorSettings(**settings.model).predictor().model
    tasks = ", ".join(model.tasks)
    if not model.looks_for_lesions:
        return f"answers {tasks}; it outlines no lesions, so there will be no SEG"
    return f"answers {tasks}"


def _folder(settings: Settings) -> str:
    free, least = Spool(settings.folder).free_gb(), settings.keep.least_free_gb
    if free < least:
        raise ArchiveError(
            f"{free:.1f} GB are free, below {least:g} nothing is received; make room"
        )
    return f"{free:.0f} GB free"


def _port(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ArchiveError(
                f"{host}:{port} is not available ({error.strerror}); if that is this service, "
                "already running, nothing is wrong; otherwise end the program that uses it, "
                "choose another port, or check host: it must be an address of this machine"
            ) from error
    return "free"


def _qido(web: WebService) -> str:
    with reaching(web):
        try:
            client_of(web).search_for_studies(limit=1)
        except (ValueError, KeyError) as error:
            raise ArchiveError(f"{web.url} does not answer as DICOMweb; check url") from error
    return "answers"


def _destination(destination: Destination, title: str) -> str:
    if destination.web is not None:
        return _qido(destination.web)
    assert destination.dicom is not None  # guaranteed by the schema
    refused = echo(destination.dicom, destination.objects, title)
    if refused:
        names = ", ".join(refused)
        raise ArchiveError(
            f"answers, but does not accept {names}; let it accept them, or leave them out "
            "of its objects"
        )
    return f"answers, takes {', '.join(destination.objects)}"
