"""CT windows: the part of the Hounsfield scale that a display or a network shows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Window:
    """A linear ramp of ``width`` HU centred on ``level`` HU."""

    level: float
    width: float

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"a window's width is positive, got {self.width}")

    @property
    def low(self) -> float:
        return self.level - self.width / 2

    @property
    def high(self) -> float:
        return self.level + self.width / 2


#: Windows commonly used for CT pulmonary angiography, (level, width) in HU.
WINDOWS = {
    "lung": Window(-600, 1500),
    "pe": Window(100, 700),
    "mediastinal": Window(40, 400),
    "embolus": Window(60, 300),
    "bone": Window(400, 1800),
}


def resolve_window(window: str | Window | Sequence[float]) -> Window:
    """A window by name, or from ``(level, width)``.

    Raises:
        KeyError: the name is not in :data:`WINDOWS`.
    """
    if isinstance(window, Window):
        return window
    if isinstance(window, str):
        if window not in WINDOWS:
            raise KeyError(f"unknown window '{window}'; known: {', '.join(WINDOWS)}")
        return WINDOWS[window]
    level, width = window
    return Window(float(level), float(width))


def apply_window(hu: np.ndarray, window: str | Window | Sequence[float]) -> np.ndarray:
    """Apply a window to Hounsfield units.

    Args:
        hu: any real dtype, any shape, Hounsfield units.
        window: a name of :data:`WINDOWS`, a :class:`Window`, or ``(level, width)``.

    Returns:
        float32, same shape, in [0, 1]: 0 at and below the window, 1 at and above it.
    """
    window = resolve_window(window)
    scaled = (hu.astype(np.float32) - np.float32(window.low)) / np.float32(window.width)
    return scaled.clip(0.0, 1.0)


def window_to_uint8(hu: np.ndarray, window: str | Window | Sequence[float]) -> np.ndarray:
    """As :func:`apply_window`, rounded to the 256 grey levels of a display."""
    return np.rint(apply_window(hu, window) * 255).astype(np.uint8)
