"""Stochastic weight averaging: the mean of the weights over the last part of training."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

from pe_unified.registry import HOOKS


@HOOKS.register_module()
class SWAHook(EMAHook):
    """Validate and save the mean of the last weights of training (Izmailov et al. 2018).

    Averaged weights need their own batch-norm statistics, which no running mean of those of
    training gives. Before a validation and a checkpoint, they are measured on training batches
    (arXiv 1803.05407, section 3.3), always the first ones of the sampler, so nothing about them
    needs to be resumed. Every process goes through all of these batches.

    ``swa_share`` in a config replaces the running average by this hook, and keeps the learning
    rate constant meanwhile.

    Args:
        share: share of all iterations, at the end, whose weights are averaged.
        interval: iterations between two weights that are averaged; with a cyclic rate, the length
            of a cycle.
        batches: number of batches to measure batch norm on.
    """

    def __init__(self, share: float = 0.25, interval: int = 1, batches: int = 50) -> None:
        if not 0 < share <= 1 or batches < 1:
            raise ValueError(
                f"share must be in (0, 1] and batches at least 1; got {share}, {batches}"
            )
        super().__init__(ema_type="StochasticWeightAverage", interval=interval, update_buffers=True)
        self.share, self.batches = share, batches
        self._measured: int | None = None

    def before_train(self, runner: Runner) -> None:
        averaged = max(1, round(self.share * runner.max_iters))
        self.begin_iter = runner.max_iters - averaged + 1  # counted from 1
        super().before_train(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        self._measure(runner)
        super().before_val_epoch(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._measure(runner)
        super().before_save_checkpoint(runner, checkpoint)

    def _measure(self, runner: Runner) -> None:
        """Measure the batch-norm statistics of the averaged weights, unless already done."""
        steps = int(self.ema_model.steps)
        if not steps or steps == self._measured:
            return
        self._measured = steps
        network = self.ema_model.module.train()
        norms = [each for each in network.modules() if isinstance(each, _BatchNorm)]
        moving = [each for each in norms if each.training and each.track_running_stats]
        if not moving:
            return
        network.eval()
        with torch.no_grad(), _from_nothing(moving), torch.random.fork_rng():
            for batch in itertools.islice(_first_batches(runner), self.batches):
                data = network.data_preprocessor(batch, training=True)
                with runner.optim_wrapper.optim_context(network):
                    network(**data, mode="tensor")


@contextmanager
def _from_nothing(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Reset the statistics, which then become the plain mean over the batches in the block."""
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, before in zip(norms, momentum):
            norm.momentum = before


def _first_batches(runner: Runner) -> Iterator[dict]:
    """Training batches, starting with the first, the same in every process."""
    settings = copy.deepcopy(runner.cfg.train_dataloader)
    settings.dataset = runner.train_dataloader.dataset
    settings.persistent_workers = False
    loader = runner.build_dataloader(settings, seed=runner.seed)
    loader.sampler.rank, loader.sampler.world_size = 0, 1
    return iter(loader)
