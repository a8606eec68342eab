"""What every command does around its work: errors in one line, Ctrl-C, progress."""

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

# Read when torch is loaded: threads that wait for each other sleep. They would spin by default, and
# take the cores from the data loaders and from whatever else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

#: Shows the traceback of an error as well, where it is set.
_TRACEBACK = "PE_UNIFIED_TRACEBACK"


@contextmanager
def exit_on_user_error(
    status: int = 1,
    goes_on: str = "run the same command again to start over",
    also: tuple[type[Exception], ...] = (),
    everything: bool = False,
) -> Iterator[None]:
    """Run a command: an error that the user can mend ends it with one line on the standard error.

    Ctrl-C ends it with one line, too, and with status 130; the processes that it started end at
    once. Progress is shown. ``PE_UNIFIED_TRACEBACK=1`` shows the tracebacks of errors.

    Args:
        status: the exit status after an error.
        goes_on: how to go on after Ctrl-C.
        also: further errors whose message is for the user.
        everything: so are errors that nobody foresaw: files of strangers hold surprises.
    """
    # Folders are named in whatever letters; those that the terminal lacks are no error.
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
            if isinstance(error, BrokenPipeError):  # what read the output has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                status, line = 141, ""
            elif interruptions or isinstance(error, KeyboardInterrupt):
                # The command that runs this one says how to go on.
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
    """The line for the user; empty where the error is none of the user's."""
    said = ""
    if os.environ.get(_TRACEBACK) or not isinstance(error, Exception):
        pass
    elif _lacks_open_files(error):
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        said = (
            f"too many open files, the limit is {limit}; raise it (ulimit -n 4096), or work with "
            "fewer processes (--workers, num_workers)"
        )
    elif isinstance(error, (UserError, FloatingPointError, *also)):
        said = _last_words(error)
    elif isinstance(error, OSError):
        said = os_error(error)
    elif everything:
        text = one_line(f"{type(error).__name__}: {error}")
        said = f"unforeseen, {text}; {_TRACEBACK}=1 shows where"
    return said and f"error: {said}"


def os_error(error: OSError) -> str:
    """What the system refused and where, in one line."""
    where = f"{shown(error.filename)}: " if error.filename else ""
    return f"{where}{error.strerror or _last_words(error)}"


def _last_words(error: Exception) -> str:
    """The message; of an error in a data loader's process, without the traceback in front of it."""
    text = str(error)
    if not text.startswith("Caught "):
        return text
    return text.strip().splitlines()[-1].partition(": ")[2]


def _lacks_open_files(error: BaseException | None) -> bool:
    """Whether the limit on open files is behind it; libraries tell so in words of their own."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # causes may run in a circle
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno == errno.EMFILE:
            return True
        if any(words in str(error) for words in ("Too many open files", "items of ancdata")):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Ctrl-C ends the worker processes and raises KeyboardInterrupt, once; a list that it fills.

    What ends then may raise errors of its own in place of KeyboardInterrupt. Further Ctrl-C is
    ignored, so that files are put away in peace.
    """
    seen: list[int] = []

    def interrupt(number: int, _: object) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # torch raises an error wherever the command is when a process of a loader ends.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        end_workers()
        raise KeyboardInterrupt

    # A command in the background of a script leaves Ctrl-C alone; a thread cannot handle it.
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
