"""Strict reuse of weights from other checkpoints."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from pe_unified.checkpoints import load_checkpoint_safely, tensors_of, training_data
from pe_unified.errors import UserError, listed

#: Source of a reused part: a checkpoint file, the content of one, or tensors by name.
WeightSource = str | os.PathLike | Mapping[str, Any]


class ReuseError(UserError, ValueError):
    """Weights that do not fit their module."""


@dataclass(frozen=True)
class ReuseReport:
    """The weights that a module took over.

    Attributes:
        module: its name in the model.
        source: the step or file that the tensors come from.
        tensors: number of tensors taken over, including batch-norm statistics.
        total: number of tensors of the module.
        trained_on: what the checkpoint was trained on (:func:`training_data`).
    """

    module: str
    source: str
    tensors: int
    total: int
    trained_on: tuple[Mapping[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The record for ``summary.json``: module, from, tensors, total."""
        return {
            "module": self.module,
            "from": self.source,
            "tensors": self.tensors,
            "total": self.total,
        }

    def __str__(self) -> str:
        return f"{self.module}: {self.tensors} of {self.total} tensors from {self.source}"


def take_over(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    name: str,
    source: str,
    fresh: Sequence[str] = (),
) -> ReuseReport:
    """Copy tensors into a module; every one must fit and none may be left over.

    Args:
        module: receives the tensors.
        tensors: by their names within the module.
        name: name of the module, for messages.
        source: origin of the tensors, for messages.
        fresh: prefixes of the names of tensors that may keep their initial values if the source
            lacks them. Batch-norm's ``num_batches_tracked``, which older files lack, always may.

    Raises:
        ReuseError: nothing matches, shapes differ, or tensors are missing or left over.
    """
    own = module.state_dict()
    matched = {key: value for key, value in tensors.items() if key in own}
    if not matched:
        raise ReuseError(
            f"{name}: none of its {len(own)} tensors is in {source}; it has e.g. "
            f"{listed([*tensors]) or 'no tensors'}, the module e.g. {listed([*own])}"
        )
    wrong = [
        f"{key} {tuple(value.shape)} for {tuple(own[key].shape)}"
        for key, value in matched.items()
        if value.shape != own[key].shape
    ]
    missing = [
        key
        for key in own
        if key not in matched
        and not key.endswith("num_batches_tracked")
        and not key.startswith(tuple(fresh))
    ]
    left_over = [key for key in tensors if key not in own]
    faults = []
    if wrong:
        faults.append(f"shapes differ: {listed(wrong)}")
    if missing:
        faults.append(f"missing: {listed(missing)}")
    if left_over:
        faults.append(f"unknown to the module: {listed(left_over)}")
    if faults:
        raise ReuseError(
            f"{name}: the weights of {source} do not fit; {'; '.join(faults)}. Build the model "
            f"with the settings it was trained with, or reuse a smaller part"
        )
    module.load_state_dict(matched, strict=False)
    return ReuseReport(name, source, len(matched), len(own))


def reuse_weights(
    model: nn.Module,
    rules: Mapping[str, WeightSource | tuple[str, WeightSource]],
    trust: bool = False,
) -> list[ReuseReport]:
    """Load parts of a model from earlier checkpoints; log and return what was loaded.

    Args:
        model: receives the weights; parts without a rule stay as they are.
        rules: name of a sub-module (``"backbone"``, ``"seg_head.decoder"``, ...) -> the source of
            its tensors, under the same name. If the source has another name for it, give both:
            ``"encoder.backbone:backbone"``. ``(step, source)`` reports the step's name.
        trust: see :func:`load_checkpoint_safely`.

    Raises:
        ReuseError: no such sub-module, or the weights do not fit it exactly.
    """
    modules = dict(model.named_modules())
    cache: dict[str, dict[str, Any]] = {}
    reports = []
    for names, rule in rules.items():
        name, stored_name = names_of_rule(names)
        if name not in modules or not name:
            known = listed([key for key in modules if key and "." not in key])
            raise ReuseError(f"reuse: the model has no module '{name}'; it has {known}")
        label, source = rule if isinstance(rule, tuple) else (None, rule)
        if isinstance(source, Mapping):
            checkpoint = source
        else:
            key = os.fspath(source)
            if key not in cache:
                cache[key] = load_checkpoint_safely(key, trust)
            checkpoint = cache[key]
            label = label or key
        prefix = f"{stored_name}."
        part = {
            key[len(prefix) :]: value
            for key, value in tensors_of(checkpoint).items()
            if key.startswith(prefix)
        }
        report = take_over(modules[name], part, name, label or "the given tensors")
        print_log(str(report), logger="current")
        reports.append(replace(report, trained_on=tuple(training_data(checkpoint))))
    return reports


def names_of_rule(names: str) -> tuple[str, str]:
    """The name of a rule's module in the model and in the source."""
    name, _, stored_name = names.partition(":")
    return name, stored_name or name
