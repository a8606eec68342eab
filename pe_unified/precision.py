"""The floating-point precision in which a network runs, on CPU and GPU."""

import re
from pathlib import Path

import torch
from mmengine.device import get_device

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


def cpu_has_bfloat16() -> bool:
    """Whether the CPU computes in bfloat16; others emulate it, much slower than float32."""
    flags = Path("/proc/cpuinfo")
    text = flags.read_text(encoding="utf-8") if flags.is_file() else ""
    return re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", text) is not None


def gpu_has_bfloat16() -> bool:
    """Whether the GPU computes in bfloat16; torch's own check also accepts emulation."""
    if torch.version.hip is not None:
        return torch.cuda.is_bf16_supported()
    return torch.cuda.get_device_capability() >= (8, 0)


def fastest_precision(device: torch.device) -> str:
    """``"bf16"`` if the device computes in it, else ``"fp32"``."""
    has = gpu_has_bfloat16() if device.type == "cuda" else cpu_has_bfloat16()
    return "bf16" if has else "fp32"


def settled_precision(precision: str) -> str:
    """Resolve ``"auto"`` for the device in use; ``"fp32"`` and ``"bf16"`` stay as they are.

    Raises:
        ValueError: ``precision`` is none of the three.
    """
    if precision == "auto":
        return fastest_precision(torch.device(get_device()))
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of auto, {', '.join(PRECISIONS)}, got '{precision}'")
    return precision


def autocast(precision: str, device: str | None = None) -> torch.autocast:
    """The autocast context of a precision, on the device in use by default.

    bfloat16 keeps float32's range, so gradients need no scaling, on CPU as on GPU.

    Raises:
        ValueError: not one of ``fp32`` and ``bf16``.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, got '{precision}'")
    dtype = PRECISIONS[precision]
    kind = (device or get_device()).split(":")[0]
    return torch.autocast(kind, dtype=dtype or torch.bfloat16, enabled=dtype is not None)
