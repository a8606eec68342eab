"""Running commands by the names of their modules."""

import importlib
import signal
import sys


def run(module: str) -> None:
    """Load a command and run it.

    Until it is loaded, Ctrl-C ends the process at once: there is nothing to tell yet.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = importlib.import_module(module)
    signal.signal(signal.SIGINT, usual)
    sys.exit(command.main())
