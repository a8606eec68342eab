"""What all commands share: errors in one line, handling of Ctrl-C, and progress."""

import errno
import io
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pe_unified.errors import UserError, one_line, shown
from pe_unified.progress import ProgressBars, show_progress_by
from pe_unified.workers import end_workers, follow_outer_command

# Read when torch is loaded: waiting threads sleep. By default they spin, and take the cores from
# the data loaders and from other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

#: Environment variable: if it is set, tracebacks of errors are shown.
_TRACEBACK = "PE_UNIFIED_TRACEBACK"


@contextmanager
def exit_on_user_error(
    status: int = 1,
    goes_on: str = "run the same command again to start over",
    also: tuple[type[Exception], ...] = (),
    everything: bool = False,
) -> Iterator[None]:
    """Run a command; an error that the user can fix ends it with one line on standard error.

    Ctrl-C also ends it with one line, and with status 130; its child processes are killed at
    once. Progress is shown. ``PE_UNIFIED_TRACEBACK=1`` shows the tracebacks of errors.

    Args:
        status: the exit status after an error.
        goes_on: how to continue after Ctrl-C.
        also: further types of errors whose message is meant for the user.
        everything: treat all other errors in the same way; unknown files may fail in any way.
    """
    # Folder names may have characters that the terminal cannot show; that is no error.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    bars = ProgressBars()
    display = show_progress_by(bars)
    with _interruptible() as interruptions:
        is_inner = False
        try:
            is_inner = follow_outer_command()
            yield
            return
        except BaseException as error:
            if isinstance(error, BrokenPipeError):  # the reader of the output closed it
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                status, line = 141, ""
            elif interruptions or isinstance(error, KeyboardInterrupt):
                # The outer command says how to continue.
                status, line = 130, "" if is_inner else f"stopped; {goes_on}"
            else:
                line = _told(error, also, everything)
                if not line:
                    raise
        finally:
            bars.stop()
            show_progress_by(display)
    if status == 1:
        sys.exit(line)  # which Python prints
    if line:
        print(line, file=sys.stderr)
    sys.exit(status)


def _told(error: BaseException, also: tuple[type[Exception], ...], everything: bool) -> str:
    """The line for the user; empty if the user cannot fix the error."""
    said = ""
    if os.environ.get(_TRACEBACK) or not isinstance(error, Exception):
        pass
    elif _lacks_open_files(error):
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        said = (
            f"too many open files, the limit is {limit}; raise it (ulimit -n 4096), or work with "
            "fewer processes (--workers, num_workers)"
        )
    elif type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
        said = (
            "the GPU's memory is full; use less: --cfg-options input_size=256 batch_size=4 "
            "accumulate=2 (train, steps), --batch-size 1 (infer, batch)"
        )
    elif isinstance(error, (UserError, FloatingPointError, *also)) or _of_a_loader(error):
        said = _last_words(error)
    elif isinstance(error, OSError):
        said = os_error(error)
    elif everything:
        text = one_line(f"{type(error).__name__}: {error}")
        said = f"unexpected, {text}; {_TRACEBACK}=1 shows where"
    return said and f"error: {said}"


def os_error(error: OSError) -> str:
    """The file and the reason of a system error, in one line."""
    where = f"{shown(error.filename)}: " if error.filename else ""
    return f"{where}{error.strerror or _last_words(error)}"


def _last_words(error: Exception) -> str:
    """The message; for errors of a data loader's process, without the traceback before it."""
    text = str(error)
    if not text.startswith("Caught "):
        return text
    return text.strip().splitlines()[-1].partition(": ")[2]


def _of_a_loader(error: Exception) -> bool:
    """Whether torch passes on a DataError of a data loader's process, which it cannot make anew."""
    return str(error).startswith("Caught DataError ")


def _lacks_open_files(error: BaseException | None) -> bool:
    """Whether the cause is the limit on open files, which libraries report in various ways."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # causes may form a cycle
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno == errno.EMFILE:
            return True
        if any(words in str(error) for words in ("Too many open files", "items of ancdata")):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """On Ctrl-C, end the worker processes and raise KeyboardInterrupt, once.

    Yields a list of the signals received, because the ending workers may cause other errors that
    replace KeyboardInterrupt. Further Ctrl-C is ignored, so that files can be cleaned up.
    """
    seen: list[int] = []

    def interrupt(number: int, _: object) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # torch's handler would raise an error at any place when a process of a loader ends.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        end_workers()
        raise KeyboardInterrupt

    # In the background of a script Ctrl-C stays ignored; only the main thread can handle it.
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN and _is_main_thread():
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, before)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
