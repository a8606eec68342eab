"""Converting the public sets: commands in this folder, and what they share."""

import signal
import sys
from pathlib import Path

# A command that is stopped while it still loads has nothing to tell: it ends as other programs do.
if Path(sys.argv[0]).resolve().parent == Path(__file__).parent:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
