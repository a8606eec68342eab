"""Metrics, differences and p-values as text for tables and pages."""

from collections.abc import Mapping
from typing import Any

_UNDEFINED = "undefined"


def with_interval(metrics: Mapping[str, Any], key: str) -> str:
    """``0.812 [0.70, 0.89]`` from ``key`` and ``<key>_ci``."""
    return interval_in_words(metrics.get(key), *(metrics.get(f"{key}_ci") or (None, None)))


def interval_in_words(
    value: float | None, low: float | None, high: float | None, digits: int = 3
) -> str:
    """A number with its interval, if it has one; unknown values are None or NaN."""
    if not _known(value):
        return _UNDEFINED
    said = f"{value:.{digits}f}"
    return f"{said} [{low:.2f}, {high:.2f}]" if _known(low, high) else said


def difference_in_words(
    value: float | None, low: float | None = None, high: float | None = None
) -> str:
    """``-0.064 [-0.108, -0.020]``; unknown values are None or NaN."""
    if not _known(value):
        return _UNDEFINED
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]" if _known(low, high) else f"{value:+.3f}"


def p_in_words(p: float | None) -> str:
    """``0.015`` or ``<0.001``; empty if unknown."""
    if not _known(p):
        return ""
    return "<0.001" if p is not None and p < 0.0005 else f"{p:.3f}"


def _known(*numbers: float | None) -> bool:
    return all(each is not None and each == each for each in numbers)
