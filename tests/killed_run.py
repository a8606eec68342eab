"""Work for a process that ends by SIGKILL; without pytest, so that it starts at once."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from tiny_run import small_config

from pe_unified.checkpoints import save_atomically
from pe_unified.engine import PERunner


class Kill(Hook):
    """Ends the process after so many iterations."""

    def __init__(self, at: int) -> None:
        self.at = at

    def after_train_iter(self, runner: PERunner, batch_idx: int, *_: Any, **__: Any) -> None:
        if batch_idx + 1 == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def train_until(
    at: int, repository: Path, data: Path, work_dir: Path, overrides: dict[str, Any]
) -> None:
    runner = PERunner.from_cfg(small_config(repository, data, work_dir, **overrides))
    runner.register_hook(Kill(at), priority="HIGHEST")
    runner.train()


def save_for_ever(path: Path) -> None:
    big = {"state_dict": {str(k): torch.rand(1_000_000) for k in range(60)}}
    while True:
        save_atomically(big, path)
