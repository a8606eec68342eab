"""Receive studies by C-STORE or DICOMweb, analyse them, and send SEG and SR back to an archive.

CONFIG is one YAML file; --example prints one with comments. The service runs until it is ended
(Ctrl-C, SIGTERM). When it is started again, it resumes where it stopped, however it was ended. Its
log is lines of JSON on the standard error; status page, /health and /metrics have their own port.
It needs pip install -e '.[pacs]'.

Examples:
  pe-unified pacs --example > pacs.yaml
  pe-unified pacs pacs.yaml --check
  pe-unified pacs pacs.yaml
  pe-unified pacs pacs.yaml --find 3f9c0a7b2d41e86f
"""

import argparse
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pe_unified.archive.errors import ArchiveError, missing_extra
from pe_unified.command import exit_on_user_error
from pe_unified.disclaimer import RESEARCH_LINE

if TYPE_CHECKING:
    from pe_unified.archive.settings import Settings


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, nargs="?", help="settings file")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument(
        "--check", action="store_true", help="check model, folder, ports and archives, and exit"
    )
    asked.add_argument("--example", action="store_true", help="print settings with comments")
    asked.add_argument(
        "--retry",
        action="store_true",
        help="queue failed and undelivered studies once more, and exit",
    )
    asked.add_argument(
        "--find", metavar="STUDY", help="print what is known about a study, by pseudonym or UID"
    )
    return parser


@exit_on_user_error(everything=True, goes_on="run the same command again to continue")
def main() -> int:
    parser = make_parser()
    args = parser.parse_args()
    if args.example:
        from importlib.resources import files

        print(files("pe_unified.archive").joinpath("example.yaml").read_text("utf-8"), end="")
        return 0
    if args.config is None:
        parser.error("CONFIG is missing; --example prints one")
    try:
        from pe_unified.archive.check import check
        from pe_unified.archive.logs import hush_libraries
        from pe_unified.archive.settings import load_settings
    except ImportError as error:
        raise missing_extra(error) from error
    hush_libraries()
    settings = load_settings(args.config)
    if args.check:
        wrong = 0
        for finding in check(settings):
            wrong += bool(finding.wrong)
            print(
                f"{'wrong' if finding.wrong else 'ok':6}{finding.what}: "
                f"{finding.wrong or finding.said}",
                flush=True,
            )
        print(f"{wrong} of these are wrong" if wrong else "nothing is wrong")
        return 1 if wrong else 0
    if args.retry or args.find:
        return _ask(settings, args)
    return _serve(settings)


def _ask(settings: "Settings", args: argparse.Namespace) -> int:
    """Look into the queue, also while the service runs."""
    from pe_unified.archive import overview
    from pe_unified.archive.status import moment
    from pe_unified.archive.store import Store

    if not settings.database.exists():
        raise ArchiveError(f"no service has run in {settings.folder} yet; check folder in CONFIG")
    store = Store(settings.database, settings.retry)
    try:
        if args.retry:
            again = store.retry_failed([each.name for each in settings.send])
            print(f"{again} {'study is' if again == 1 else 'studies are'} queued again")
            return 0
        found = overview.find(store, args.find)
        if found is None:
            raise ArchiveError(f"no study {args.find} is known; the status page lists the newest")
        for name, value in found.items():
            shown = moment(value) if value and name in overview.MOMENTS else value
            print(f"{name}: {'' if shown is None else shown}")
        return 0
    finally:
        store.close()


def _serve(settings: "Settings") -> int:
    from pe_unified.archive.logs import log_to
    from pe_unified.archive.service import Service

    log_to(sys.stderr)
    service = Service(settings)
    ended = threading.Event()
    try:
        service.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        print(f"{RESEARCH_LINE}.", flush=True)
        ended.wait()
    finally:
        service.close()
    return 0
