"""What the tools' command lines share."""

import argparse
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Read when torch is loaded: threads that wait for each other sleep. They would spin by default, and
# take the cores from the data loaders and from whatever else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from mmengine.config import Config, DictAction

from pe_unified.ct.errors import DataError, one_line
from pe_unified.datasets import DatasetError
from pe_unified.engine import ConfigError, load_config
from pe_unified.engine.parallel import WorkerDied
from pe_unified.models.weights import CheckpointError, ReuseError

#: Errors whose message is for the user: one line, no traceback.
USER_ERRORS = (
    OSError,
    FloatingPointError,
    CheckpointError,
    ReuseError,
    ConfigError,
    DatasetError,
    DataError,
    WorkerDied,
)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="a Python config, such as configs/pe_cls_r50.py")
    parser.add_argument("--data-root", help="the converted data set's folder")
    parser.add_argument(
        "--work-dir",
        help="where results go; a folder under work_dirs named after the config by default",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="override settings of the config, e.g. max_iters=500 lr=1e-4; "
        "a key that neither the config has nor the part there takes is refused",
    )
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="load checkpoints that contain pickled code; it will be run",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="how this process was started",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def read_config(args: argparse.Namespace) -> Config:
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    overrides = dict(args.cfg_options or {})
    if getattr(args, "amp", False):
        overrides["precision"] = "bf16"
    cfg = load_config(args.config, overrides, args.data_root)
    cfg.trust_checkpoint = args.trust_checkpoint
    return cfg


def _last_words(error: Exception) -> str:
    """The message; of an error in a data loader's process, without the traceback in front of it."""
    text = str(error)
    if not text.startswith("Caught "):
        return text
    return text.strip().splitlines()[-1].partition(": ")[2]


@contextmanager
def exit_on_user_error(everything: bool = False, goes_on: str = "") -> Iterator[None]:
    """Turn an error that the user can cure into its message and exit status 1.

    ``PE_UNIFIED_TRACEBACK=1`` shows the traceback as well.

    Args:
        everything: do so with errors that nobody foresaw, too: files of strangers hold surprises.
        goes_on: what goes on where Ctrl-C stopped.
    """
    # Folders are named in whatever letters; those that the terminal lacks are no error.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except KeyboardInterrupt:
        print(f"stopped; {goes_on}" if goes_on else "stopped", file=sys.stderr)
        sys.exit(130)
    except USER_ERRORS as error:
        if os.environ.get("PE_UNIFIED_TRACEBACK"):
            raise
        sys.exit(f"error: {_last_words(error)}")
    except Exception as error:
        if not everything or os.environ.get("PE_UNIFIED_TRACEBACK"):
            raise
        text = one_line(f"{type(error).__name__}: {error}")
        sys.exit(f"error: unforeseen, {text}; PE_UNIFIED_TRACEBACK=1 shows where")
