"""A digest of everything that affects the result of a training."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_unified.engine.config import annotation_files

#: Settings that do not affect the result.
WITHOUT_EFFECT = (
    *("experiment_name", "work_dir", "num_workers", "launcher"),
    *("log_level", "log_processor", "console_level", "vis_backends", "visualizer"),
)
_SPLITS = ("train", "val", "test")


def fingerprint_of(cfg: Config, more: Mapping[str, Any]) -> str:
    """Digest of the settings, of the annotations, and of ``more``, which replaces settings."""
    relevant = {**cfg.to_dict(), **more}
    for key in WITHOUT_EFFECT:
        relevant.pop(key, None)
    for split in _SPLITS:
        for key in ("num_workers", "persistent_workers", "timeout"):
            (relevant.get(f"{split}_dataloader") or {}).pop(key, None)
    annotations = {
        split: _digest(file, file.stat().st_mtime_ns)
        for split, file in annotation_files(cfg, *_SPLITS).items()
    }
    text = json.dumps([relevant, annotations], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _digest(file: Path, modified: int) -> str:
    """Digest of a file, read once; its time of modification, ns, keeps the cache valid."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
