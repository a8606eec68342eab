"""Starting commands of their own in tests, so that none is left, whatever ends the test."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil


@contextmanager
def started(words: Sequence[object], **options: Any) -> Iterator[subprocess.Popen]:
    """A process in a session of its own that hears Ctrl-C; the whole session ends at the end."""
    process = subprocess.Popen(
        [str(word) for word in words], start_new_session=True, preexec_fn=_hear, **options
    )
    try:
        yield process
    finally:
        for member in session(process):
            member.kill()
        process.wait()


def _hear() -> None:
    """Tests may run in the background of a script, where Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(words: Sequence[object], **options: Any) -> subprocess.CompletedProcess:
    """Run to the end, its output kept; descendants in sessions of their own end with it, too."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(words, **pipes, **options) as process:
        try:
            out, err = process.communicate()
        except BaseException:
            for descendant in psutil.Process(process.pid).children(recursive=True):
                descendant.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def session(process: subprocess.Popen) -> list[psutil.Process]:
    """The living processes of the session that a process began."""
    return [each for each in psutil.process_iter() if _is_alive_in(each, process.pid)]


def _is_alive_in(process: psutil.Process, leader: int) -> bool:
    try:
        return os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


def wait_until(happened: Any, process: subprocess.Popen) -> None:
    """Until something has happened; a process that ends before is an error."""
    while not happened():
        assert process.poll() is None, "it ended before"
        time.sleep(0.05)


def wait_for_the_end_of_all(process: subprocess.Popen) -> None:
    """Until nothing of its session is left."""
    process.wait()
    while session(process):
        time.sleep(0.05)
