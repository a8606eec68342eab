"""Analyses studies that arrive while the server runs, one after the other."""

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pe_unified.errors import DataError
from pe_unified.progress import say
from pe_unified.reports.case_list import find_studies
from pe_unified.reports.fingerprint import fingerprint

#: A folder that changed within this time may still be being copied, s.
_QUIET_S = 10.0


@contextmanager
def analysed(
    studies: Sequence[Path], reports: Path, model: Path, pseudonymise: bool = False
) -> Iterator[None]:
    """Run ``pe-unified batch`` on a folder, and again whenever its content has changed and then
    stayed the same for a while.

    A study that has a report is skipped, since readers may have decided on its lesions.
    """
    command = [sys.executable, "-m", "pe_unified", "batch", str(studies[0]), "--workers", "1"]
    command += ["--checkpoint", str(model), "--out", str(reports), "--missing"]
    command += ["--pseudonymise"] if pseudonymise else []
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(studies[0], command, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(folder: Path, command: Sequence[str], stop: threading.Event) -> None:
    done, before = "", ""
    while not stop.is_set():
        now = _state(folder)
        if now and now != done and now == before:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            while process.poll() is None:
                if stop.wait(0.5):
                    process.terminate()
                    process.wait()
                    return
            # 1: some studies have no report; the worklist shows them.
            if process.returncode not in (0, 1):
                say(f"pe-unified batch ended with status {process.returncode}")
            done = now
        before = now
        stop.wait(_QUIET_S)


def _state(folder: Path) -> str:
    """A string that changes with the files of the studies; empty without studies."""
    try:
        return " ".join(fingerprint(path) for path in find_studies(folder))
    except (OSError, DataError):
        return ""
