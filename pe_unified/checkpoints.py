"""Checkpoint files: find them, read them without running code, write them atomically."""

import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from packaging.version import parse
from torch import Tensor

from pe_unified.errors import CheckpointError, first_line
from pe_unified.files import appearing, remove_abandoned

_ITERATION = re.compile(r"iter_(\d+)\.pth")


def load_checkpoint_safely(
    path: str | os.PathLike, trust: bool = False, map_location: str | torch.device = "cpu"
) -> dict[str, Any]:
    """Read a checkpoint without running any code that it contains.

    Args:
        path: file written by ``torch.save``.
        trust: unpickle everything, including code; only for files that you trust.
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
                    f"{path}: not a checkpoint ({_beginning(path)}); fetch it again"
                ) from error
            raise CheckpointError(
                f"{path}: refused, because reading it would run pickled code"
                f"{f' ({unsafe})' if unsafe else ''}. If you made this file or trust who did, "
                f"pass --trust-checkpoint"
            ) from error
        except Exception as error:
            raise CheckpointError(
                f"{path}: not a complete checkpoint ({first_line(error)}). It was cut off or is "
                f"another kind of file: fetch it again, or use the checkpoint before it"
            ) from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{path}: holds a {type(loaded).__name__}, expected a dictionary of tensors or a "
            f"checkpoint with 'state_dict'"
        )
    return dict(loaded)


@contextmanager
def _allowed_types() -> Iterator[None]:
    """Allow the data types of mmengine's own checkpoints; none of them runs code."""
    core: Any = np._core.multiarray  # type: ignore[attr-defined]
    allowed: list[Any] = [core._reconstruct, core.scalar, np.ndarray, np.dtype, HistoryBuffer]
    allowed += [getattr(np.dtypes, name) for name in np.dtypes.__all__ if name.endswith("DType")]
    if parse(torch.__version__) >= parse("2.6"):  # older versions take no (object, name) pair
        allowed.append((_method_of_history, "builtins.getattr"))
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals(allowed)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _method_of_history(owner: Any, name: str) -> Any:
    """Replaces ``getattr`` in checkpoints: mmengine pickles its averaging methods by name."""
    if owner is HistoryBuffer and name in ("min", "max", "mean", "current"):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f"getattr({owner!r}, {name!r}) in a checkpoint")


def _beginning(path: Path) -> str:
    """What a file that is not a checkpoint appears to be."""
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


def config_of(stored: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The config in a checkpoint of this package; None for others, which may hold text."""
    meta = stored.get("meta")
    config = meta.get("cfg") if isinstance(meta, Mapping) else None
    return config if isinstance(config, Mapping) and config.get("model") else None


def tensors_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors by name, also where they are nested under ``state_dict`` or ``model``."""
    for key in ("state_dict", "model"):
        inner = checkpoint.get(key)
        if isinstance(inner, Mapping):
            checkpoint = inner
            break
    return {name: value for name, value in checkpoint.items() if isinstance(value, Tensor)}


def training_data(checkpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The data that the weights of a checkpoint were trained on, earlier steps included.

    One entry per set and step: ``set``, ``source``, ``patients``, ``slices``, ``synthetic`` (None
    if unknown) and ``step``; newer checkpoints also have ``licence`` and ``studies`` (digests).
    Weights of other programs, such as ImageNet's, have no entries.
    """
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping) or "pe_unified" not in meta:
        return []
    found = meta.get("trained_on")
    if found is None:
        unknown = dict.fromkeys(("set", "source", "patients", "slices", "synthetic"))
        found = [{**unknown, "step": meta.get("step")}]
    return list(found)


def save_atomically(checkpoint: dict, path: Path) -> None:
    """Write a temporary file beside ``path``, flush it to disk, and rename it."""
    remove_abandoned(path.parent, ".pth")
    with appearing(path) as partial, partial.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())


def checkpoints_of(work_dir: str | Path) -> list[Path]:
    """The checkpoints ``iter_*.pth`` of a run, oldest first; renamed copies are ignored."""
    found = {
        path: int(match.group(1))
        for path in Path(work_dir).glob("iter_*.pth")
        if (match := _ITERATION.fullmatch(path.name))
    }
    return sorted(found, key=lambda path: found[path])


def newest_checkpoint(work_dir: str | Path) -> str | None:
    """The complete ``iter_*.pth`` with the highest number, or None.

    A truncated file (full disk, interrupted copy) is skipped.
    """
    for path in reversed(checkpoints_of(work_dir)):
        if is_whole(path):
            return str(path)
    return None


def is_whole(path: str | Path) -> bool:
    """Whether every part of a checkpoint file can be read and matches its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError):
        return False
