"""Logs as lines of JSON that name no patient."""

import datetime
import json
import logging
import sys
import warnings
from typing import Any, TextIO

#: Fields of a line, apart from time, level and event; the study is a pseudonym.
FIELDS = (
    *("study", "state", "reason", "rule", "images", "results", "destination", "source", "tries"),
    *("seconds", "verdict", "kind", "port", "number", "traceback"),
)


class JsonLines(logging.Formatter):
    """One JSON object per record. It holds only events written as plain text and the known fields,
    since the message of an exception may quote a header."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        return json.dumps(line)


def log_to(stream: TextIO = sys.stderr) -> None:
    """Write the logs of this package to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    own = logging.getLogger("pe_unified.archive")
    own.handlers, own.propagate = [handler], False
    own.setLevel(logging.INFO)


def hush_libraries() -> None:
    """Suppress logs and warnings of libraries, which quote what they receive."""
    warnings.simplefilter("ignore")
    for name in ("pynetdicom", "pydicom", "dicomweb_client", "highdicom", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def places(error: BaseException) -> list[str]:
    """Where an error was raised: files, lines and functions, without its message."""
    found = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        module = trace.tb_frame.f_globals.get("__name__", "?")
        found.append(f"{module}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return found[-8:]
