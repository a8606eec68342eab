"""Reading checkpoints safely, and reusing parts of them strictly."""

import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from packaging.version import parse
from torch import Tensor, nn

from pe_unified.errors import UserError, first_line

#: Where a reused part comes from: a checkpoint file, its content, or bare tensors by name;
#: with a name before it, that name is reported in place of the file's.
WeightSource = str | os.PathLike | Mapping[str, Any]


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that cannot be read, or must not be."""


def config_of(stored: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The config that a checkpoint of this package carries; None of others, which may hold text."""
    meta = stored.get("meta")
    config = meta.get("cfg") if isinstance(meta, Mapping) else None
    return config if isinstance(config, Mapping) and config.get("model") else None


class ReuseError(UserError, ValueError):
    """Weights that do not fit the module they are meant for."""


@dataclass(frozen=True)
class ReuseReport:
    """What a module took over.

    Attributes:
        module: its name in the model.
        source: the step or file the tensors came from.
        tensors: tensors taken over, batch-norm statistics included.
        total: tensors the module has.
        trained_on: what the checkpoint was trained on (:func:`training_data`).
    """

    module: str
    source: str
    tensors: int
    total: int
    trained_on: tuple[Mapping[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As ``summary.json`` records it: module, from, tensors, total."""
        return {
            "module": self.module,
            "from": self.source,
            "tensors": self.tensors,
            "total": self.total,
        }

    def __str__(self) -> str:
        return f"{self.module}: {self.tensors} of {self.total} tensors from {self.source}"


def load_checkpoint_safely(
    path: str | os.PathLike, trust: bool = False, map_location: str | torch.device = "cpu"
) -> dict[str, Any]:
    """Read a checkpoint without running code that it may carry.

    Args:
        path: file written by ``torch.save``.
        trust: unpickle whatever the file says, code included; only for files of one's own.
        map_location: device of the tensors.

    Raises:
        CheckpointError: the file is missing, is incomplete, or would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    with ExitStack() as stack:
        if not trust:
            stack.enter_context(_allowed_types())
        try:
            loaded = torch.load(path, map_location=map_location, weights_only=not trust)
        except pickle.UnpicklingError as error:
            unsafe = _unsafe_names(path)
            if not unsafe and not zipfile.is_zipfile(path):
                raise CheckpointError(
                    f"{path}: no checkpoint ({_beginning(path)}); fetch it again"
                ) from error
            raise CheckpointError(
                f"{path}: refused, because reading it would run pickled code"
                f"{f' ({unsafe})' if unsafe else ''}. If you made this file or trust who did, "
                f"pass --trust-checkpoint"
            ) from error
        except Exception as error:
            raise CheckpointError(
                f"{path}: not a whole checkpoint ({first_line(error)}). It was cut off or is "
                f"another kind of file: fetch it again, or take the checkpoint before it"
            ) from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{path}: holds a {type(loaded).__name__}, expected a dictionary of tensors or a "
            f"checkpoint with 'state_dict'"
        )
    return dict(loaded)


@contextmanager
def _allowed_types() -> Iterator[None]:
    """Let data types of mmengine's own checkpoints pass; none of them runs code."""
    core = np._core.multiarray
    allowed: list[Any] = [core._reconstruct, core.scalar, np.ndarray, np.dtype, HistoryBuffer]
    allowed += [getattr(np.dtypes, name) for name in np.dtypes.__all__ if name.endswith("DType")]
    if parse(torch.__version__) >= parse("2.6"):  # before, an entry had no name but its own
        allowed.append((_method_of_history, "builtins.getattr"))
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals(allowed)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _method_of_history(owner: Any, name: str) -> Any:
    """Stands for ``getattr`` in checkpoints: mmengine pickles its averaging methods by name."""
    if owner is HistoryBuffer and name in ("min", "max", "mean", "current"):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f"getattr({owner!r}, {name!r}) in a checkpoint")


def _beginning(path: Path) -> str:
    """What a file that is no checkpoint seems to be."""
    with path.open("rb") as file:
        head = file.read(60)
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of git-lfs, not the file itself"
    if head.lstrip()[:1] == b"<":
        return "a web page"
    return f"it begins with {head[:16]!r}"


def _unsafe_names(path: Path) -> str:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:
        return ""
    return ", ".join(sorted(names)[:5])


def tensors_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors by name, whatever envelope a checkpoint has (``state_dict``, ``model``)."""
    for key in ("state_dict", "model"):
        inner = checkpoint.get(key)
        if isinstance(inner, Mapping):
            checkpoint = inner
            break
    return {name: value for name, value in checkpoint.items() if isinstance(value, Tensor)}


def training_data(checkpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the weights of a checkpoint were trained on, steps before it included.

    One entry per set and step: ``set``, ``source``, ``patients``, ``slices``, ``synthetic`` (None
    where nobody knows) and ``step``. Other programs' weights, such as ImageNet's, have none.
    """
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping) or "pe_unified" not in meta:
        return []
    unknown = dict.fromkeys(("set", "source", "patients", "slices", "synthetic"))
    return list(meta.get("trained_on") or [{**unknown, "step": meta.get("step")}])


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
        name: of the module, for messages.
        source: where the tensors come from, for messages.
        fresh: beginnings of the names of tensors that may keep their initial values where the
            source has none. Batch-norm's ``num_batches_tracked``, which older files lack, may
            always.

    Raises:
        ReuseError: nothing matches, shapes differ, or tensors are missing or left over.
    """
    own = module.state_dict()
    matched = {key: value for key, value in tensors.items() if key in own}
    if not matched:
        raise ReuseError(
            f"{name}: none of its {len(own)} tensors is in {source}; it has e.g. "
            f"{_some(tensors) or 'no tensors'}, the module e.g. {_some(own)}"
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
        faults.append(f"shapes differ: {_some(wrong)}")
    if missing:
        faults.append(f"missing: {_some(missing)}")
    if left_over:
        faults.append(f"unknown to the module: {_some(left_over)}")
    if faults:
        raise ReuseError(
            f"{name}: the weights of {source} do not fit; {'; '.join(faults)}. Build the model "
            f"with the settings it was trained with, or reuse a smaller part"
        )
    module.load_state_dict(matched, strict=False)
    return ReuseReport(name, source, len(matched), len(own))


def _some(names: Any, limit: int = 6) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def reuse_weights(
    model: nn.Module,
    rules: Mapping[str, WeightSource | tuple[str, WeightSource]],
    trust: bool = False,
) -> list[ReuseReport]:
    """Take parts of a model from earlier checkpoints; log and return what was taken.

    Args:
        model: receives the weights; parts without a rule stay as they are.
        rules: name of a sub-module (``"backbone"``, ``"seg_head.decoder"``, ...) -> where its
            tensors come from, under the same name; ``"encoder.backbone:backbone"`` where they
            stand there under another one, the second. ``(step, source)`` reports the step's name.
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
            known = _some(key for key in modules if key and "." not in key)
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
    """Of a rule's module, the name in the model and the name in the source."""
    name, _, stored_name = names.partition(":")
    return name, stored_name or name
