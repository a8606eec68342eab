import os

import pytest

from pe_unified.engine import ConfigError
from pe_unified.engine.launchers import join_processes


@pytest.mark.parametrize("launcher", ["pytorch", "slurm", "mpi"])
def test_a_launcher_that_did_not_start_this_process_is_refused(launcher, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_"))]:
        monkeypatch.delenv(name)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    starter = {"pytorch": "torchrun", "slurm": "srun", "mpi": "mpirun"}[launcher]
    with pytest.raises(ConfigError, match=f"--launcher {launcher} .*{starter}.* is not set here"):
        join_processes(launcher)
