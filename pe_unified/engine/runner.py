"""mmengine's Runner with checkpoints that are complete, describe themselves, and run no code."""

import itertools
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import EarlyStoppingHook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from mmengine.runner.checkpoint import weights_to_cpu
from mmengine.visualization import Visualizer
from torch.utils.data import DataLoader

from pe_unified.checkpoints import (
    checkpoints_of,
    load_checkpoint_safely,
    newest_checkpoint,
    save_atomically,
    tensors_of,
    training_data,
)
from pe_unified.datasets import training_sources
from pe_unified.disclaimer import unique
from pe_unified.engine.config import ConfigError
from pe_unified.engine.knobs import changed_knobs
from pe_unified.engine.launchers import join_processes
from pe_unified.engine.loaders import end_loader, loaders_tell, watch_loader
from pe_unified.engine.logs import with_stores
from pe_unified.engine.part_errors import building, require_labels
from pe_unified.engine.random_state import gather_random_states, restore_random_state
from pe_unified.engine.unseen import as_checkpoint, pretraining_data, require_unseen
from pe_unified.memory import give_back_freed_memory
from pe_unified.models.weights import reuse_weights, take_over
from pe_unified.version import __version__

_RUN_NUMBERS = itertools.count(1)


class PERunner(Runner):
    """Differences from mmengine's Runner:

    - A checkpoint is written atomically, holds plain data only, and contains its config, its
      step, what it was started from, the thresholds set on validation and the state of every
      random generator of every process.
    - ``resume`` continues from the newest complete checkpoint; ``load_from`` gives weights
      to a run that has no checkpoint to continue from.
    - Loading is strict, and refuses pickled code unless ``cfg.trust_checkpoint``.
    - ``cfg.reuse`` ``{module: checkpoint}``, or ``{module: [step, checkpoint]}``, starts
      modules from other checkpoints.
    - ``cfg.console_level`` is the log level of the console; the file has the whole log.
    - Each runner has a unique name. Runners of one process with the same name share their
      log, and mmengine's names are the same within a second.
    """

    def __init__(self, model: Any, work_dir: str, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("experiment_name") is None:
            kwargs["experiment_name"] = f"{Path(work_dir).name}_{next(_RUN_NUMBERS)}"
        super().__init__(model, work_dir, *args, **kwargs)
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        self.parents: list[dict] = []
        #: The training data of the weights that it started from.
        self.inherited: list[dict] = []
        #: Results of validation, thresholds included; the checkpoint contains them.
        self.validated: dict[str, float] = {}
        #: Finished iterations of the validated weights.
        self.validated_iter: int | None = None
        #: Best value so far of the metric that picks ``best.pth``.
        self.best: float | None = None
        self._seconds_before = 0.0
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far, including those before an interruption."""
        running = 0.0 if self._started is None else time.monotonic() - self._started
        return self._seconds_before + running

    @property
    def network(self) -> torch.nn.Module:
        """The model itself, without the wrapper that it has if processes share it."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def train(self) -> torch.nn.Module:
        self._started = time.monotonic()
        try:
            with loaders_tell():
                return super().train()
        finally:
            self._seconds_before, self._started = self.seconds, None
            self._end_loaders()

    def test(self) -> dict[str, float]:
        try:
            with loaders_tell():
                return super().test()
        finally:
            self._end_loaders()

    def _end_loaders(self) -> None:
        for loop in (self._train_loop, self._val_loop, self._test_loop):
            if isinstance(loop, BaseLoop):
                end_loader(loop.dataloader)

    def dump_config(self) -> None:
        """Write it into the work dir; a run that only tests keeps the config of the training."""
        name = Path(self.cfg.filename).name if self.cfg.filename else None
        only_tests = self._train_dataloader is None
        if not (only_tests and name and (Path(self.work_dir) / name).exists()):
            console_level = self.cfg.pop("console_level", None)  # of this terminal only
            super().dump_config()
            if console_level is not None:
                self.cfg.console_level = console_level

    def setup_env(self, env_cfg: dict) -> None:
        join_processes(self.launcher)
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: torch.nn.Module) -> Any:
        if self.distributed and not torch.cuda.is_available():
            return MMDistributedDataParallel(module=model, broadcast_buffers=False)
        return super().wrap_model(model_wrapper_cfg, model)

    def build_model(self, model: Any) -> torch.nn.Module:
        with building("model"):
            return super().build_model(model)

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        if isinstance(visualizer, Mapping):
            visualizer = with_stores(visualizer, self.work_dir)
        with building("visualizer"):
            return super().build_visualizer(visualizer)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        with building("optim_wrapper"):
            return super().build_optim_wrapper(optim_wrapper)

    def build_train_loop(self, loop: Any) -> BaseLoop:
        with building("train_dataloader or train_cfg"):
            built = super().build_train_loop(loop)
        require_labels(self.network, built.dataloader.dataset)
        give_back_freed_memory()  # raw annotations take more than all that is kept
        return built

    def build_val_loop(self, loop: Any) -> BaseLoop:
        with building("val_dataloader, val_evaluator or val_cfg"):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: Any) -> BaseLoop:
        with building("test_dataloader, test_evaluator or test_cfg"):
            return super().build_test_loop(loop)

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        with building("default_hooks or custom_hooks"):
            super().register_hooks(*args, **kwargs)

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """Register the hooks of the config and no others; None leaves a hook out."""
        for hook in (hooks or {}).values():
            if hook is not None:
                self.register_hook(hook)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(self.cfg.get("console_level", logging.INFO))
        return logger

    def _init_model_weights(self) -> None:
        # A resumed run has its own weights; the files that it started from may be gone.
        if self._resume and newest_checkpoint(self.work_dir):
            return
        super()._init_model_weights()
        reuse = self.cfg.get("reuse") or {}
        rules = {
            module: tuple(source) if isinstance(source, list) else source
            for module, source in reuse.items()
        }
        trust = self.cfg.get("trust_checkpoint", False)
        reports = reuse_weights(self.network, rules, trust=trust)
        self.parents = [report.as_dict() for report in reports]
        self.inherited = [each for report in reports for each in report.trained_on]
        self.inherited += pretraining_data(self.cfg.model, trust)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """As mmengine's, but watched, and with its own random generator.

        PyTorch draws a seed whenever a loader starts; taken from the global generator,
        that draw would make a resumed run differ from an uninterrupted one.
        """
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        loader.generator = torch.Generator().manual_seed(seed or 0)
        watch_loader(loader)
        return loader

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = False,
        backend_args: dict | None = None,
    ) -> None:
        """Write a checkpoint atomically; ``meta["iter"]`` counts finished iterations.

        All processes must call it, since each adds its random state; the first one writes.
        """
        random_states = gather_random_states()
        if not is_main_process():
            return
        finished = (meta or {}).get("iter", self.iter)
        checkpoint: dict[str, Any] = {
            "meta": {
                "epoch": 0,
                "iter": finished,
                **(meta or {}),
                "pe_unified": __version__,
                "cfg": self.cfg.to_dict(),
                "step": self.cfg.get("step"),
                "parents": self.parents,
                "trained_on": self.trained_on(),
                "features": features_key(self.train_dataloader.dataset),
                # Thresholds of other weights do not count.
                "validated": self.validated if self.validated_iter == finished else {},
                "best": self.best,
                "seconds": self.seconds,
                "stopped": getattr(self.train_loop, "stop_training", False),
                "seed": self.seed,
                "experiment_name": self.experiment_name,
                "dataset_meta": getattr(self.train_dataloader.dataset, "metainfo", None),
            },
            "state_dict": weights_to_cpu(self.network.state_dict()),
            "message_hub": {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}},
            "random_state": random_states,
        }
        if save_optimizer:
            checkpoint["optimizer"] = self.optim_wrapper.state_dict()
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint["param_schedulers"] = [
                scheduler.state_dict() for scheduler in self.param_schedulers
            ]
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        save_atomically(checkpoint, Path(out_dir) / filename)

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict:
        """Load weights strictly; an error lists the keys that do not fit."""
        checkpoint = load_checkpoint_safely(filename, trust=self.cfg.get("trust_checkpoint", False))
        checkpoint.setdefault("state_dict", tensors_of(checkpoint))
        self._require_same_features(checkpoint, filename)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        take_over(self.network, checkpoint["state_dict"], "the config's model", str(filename))
        self._has_loaded = True
        self.inherited += training_data(checkpoint)
        self.logger.info(f"weights of {filename} loaded")
        return checkpoint

    def _require_same_features(self, checkpoint: Mapping[str, Any], filename: str) -> None:
        """Refuse features of another network or input: they mean nothing to a model."""
        expected = (checkpoint.get("meta") or {}).get("features")
        for dataset in self._datasets():
            given = features_key(dataset)
            if expected and given and given != expected:
                raise ConfigError(
                    f"{filename} was trained on features {expected}, but {dataset.store.folder} "
                    "holds others, of another network or input; name the folder "
                    f"features-{expected}"
                )

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Continue as if uninterrupted: weights, optimiser, schedule, random state.

        With another ``max_iters`` the learning rate continues as in a run of that length.
        """
        super().resume(filename, *args, **kwargs)
        checkpoint = load_checkpoint_safely(filename, trust=self.cfg.get("trust_checkpoint", False))
        meta = checkpoint["meta"]
        changed = changed_knobs(meta["cfg"], self.cfg)
        if changed:
            kept = any(each.startswith("lr ") for each in changed)
            self.logger.warning(
                f"resumed with other settings than {filename} was trained with: "
                f"{'; '.join(changed)}"
                + (". The optimiser keeps the learning rate of the checkpoint" if kept else "")
            )
        before = (meta["cfg"].get("train_cfg") or {}).get("max_iters")
        if before != self.max_iters and self.param_schedulers:
            self._stretch_schedule(meta["iter"])
            self.logger.warning(
                f"the schedule had {before} iterations and now has {self.max_iters}: the learning "
                "rate continues as in a run of the new length"
            )
        self.parents = list(meta["parents"])
        self.inherited = training_data(checkpoint)
        self.validated, self.validated_iter = dict(meta["validated"]), meta["iter"]
        self.best = meta["best"]
        self._seconds_before = meta["seconds"]
        if meta.get("stopped") and any(isinstance(hook, EarlyStoppingHook) for hook in self.hooks):
            self.train_loop.stop_training = True
        if not restore_random_state(checkpoint["random_state"]):
            self.logger.warning(
                f"{filename} holds the random state of a run that did not have {self.world_size} "
                "processes: the random generators start from the seed"
            )

    def _stretch_schedule(self, finished: int) -> None:
        """Go through the finished iterations of the config's schedule, from its beginning.

        Schedulers derive each value from the previous one, so one that has ended cannot
        continue.
        """
        for scheduler in self.param_schedulers:
            for group in scheduler.optimizer.param_groups:
                group[scheduler.param_name] = group[f"initial_{scheduler.param_name}"]
        self.param_schedulers = self.build_param_scheduler(self.cfg.param_scheduler)
        for _ in range(finished):
            for scheduler in self.param_schedulers:
                scheduler.step()

    def load_or_resume(self) -> None:
        """With ``resume``, continue from the newest complete checkpoint of the work dir.

        If there is none, the run starts anew, with the weights of ``load_from`` if it is set.
        """
        if not self._has_loaded and self._resume:
            newest = newest_checkpoint(self.work_dir)
            if newest is None:
                self.logger.info(
                    f"nothing to resume in {self.work_dir}: starting from the beginning"
                )
                self._resume = False
            else:
                self._load_from = newest
        super().load_or_resume()
        name = str(self._load_from or "the weights that this run starts from")
        models = {name: as_checkpoint(self.inherited)}
        for dataset in self._datasets():
            if getattr(dataset, "store", None):
                encoder = dataset.store.encoder
                models[str(encoder)] = load_checkpoint_safely(encoder)
        loaders = (self.cfg.get("val_dataloader"), self.cfg.get("test_dataloader"))
        require_unseen(models, *(each.dataset for each in loaders if each))
        self.inherited = unique([each for one in models.values() for each in training_data(one)])

    def _datasets(self) -> list[Any]:
        """Of the loops of this call, except validation's."""
        loops = (self._train_loop, self._test_loop)
        return [loop.dataloader.dataset for loop in loops if isinstance(loop, BaseLoop)]

    def trained_on(self) -> list[dict[str, Any]]:
        """The data that the weights were trained on, here and before: see ``training_data``."""
        own = training_sources(self.train_dataloader.dataset)
        return unique([*({**each, "step": self.cfg.get("step")} for each in own), *self.inherited])


def features_key(dataset: Any) -> str | None:
    """The key of the features that a data set reads; None if it reads slices."""
    store = getattr(dataset, "store", None)
    return store.key if store else None


def refuse_used(work_dir: str | Path, option: str = "--work-dir") -> None:
    """Refuse a folder with checkpoints of an earlier run: they could displace new ones."""
    found = checkpoints_of(work_dir)
    if found:
        raise ConfigError(
            f"{work_dir} holds {found[-1].name} of an earlier run; continue it with --resume, "
            f"name another {option}, or remove the folder"
        )
