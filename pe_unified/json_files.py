"""Metrics and other results as strict JSON."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pe_unified.files import write_text


def as_json(value: Any) -> Any:
    """A value for strict JSON: NaN and infinity become null, arrays and tensors numbers."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if hasattr(value, "tolist"):
        return as_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON atomically."""
    write_text(path, json.dumps(as_json(value), indent=2, allow_nan=False) + "\n")
