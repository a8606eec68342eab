"""Processes that a launcher starts together to train one model."""

import atexit
import os

import torch
from mmengine.dist import init_dist

from pe_unified.engine.config import ConfigError

#: The environment variables that each launcher sets, and its command.
_LAUNCHERS = {
    "pytorch": (
        ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
        "torchrun --nproc_per_node N",
    ),
    "slurm": (("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"), "srun --ntasks N"),
    "mpi": (
        (*(f"OMPI_COMM_WORLD_{name}" for name in ("RANK", "LOCAL_RANK", "SIZE")), "MASTER_ADDR"),
        "mpirun -np N -x MASTER_ADDR=HOST",
    ),
}


def join_processes(launcher: str) -> None:
    """Join the processes that were started together with this one, once.

    mmengine's ``init_dist`` is not used on CPUs, because it always sets a GPU.

    Raises:
        ConfigError: the launcher did not start this process, or needs GPUs that are missing.
    """
    if launcher == "none" or torch.distributed.is_initialized():
        return
    variables, starter = _LAUNCHERS[launcher]
    missing = [name for name in variables if name not in os.environ]
    if missing:
        raise ConfigError(
            f"--launcher {launcher} is for the processes of '{starter}' in front of the command; "
            f"{', '.join(missing)} is not set here. Leave it out for a single process"
        )
    if launcher != "pytorch" and not torch.cuda.is_available():
        raise ConfigError(
            f"--launcher {launcher} gives every process a GPU, but torch finds none here; on CPUs "
            "start the processes with torchrun and use --launcher pytorch"
        )
    os.environ.setdefault("LOCAL_RANK", "0")
    if launcher == "pytorch" and not torch.cuda.is_available():
        torch.distributed.init_process_group("gloo")
    else:
        init_dist(launcher, backend="nccl")
    # Threads of the group that outlive the interpreter abort the process.
    atexit.register(_leave_processes)


def _leave_processes() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
