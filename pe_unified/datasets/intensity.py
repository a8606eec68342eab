"""Intensity transforms of a slice: Hounsfield jitter, noise, windows."""

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from pe_unified.ct.windows import resolve_window, window_to_uint8
from pe_unified.registry import TRANSFORMS


@TRANSFORMS.register_module()
class HUJitter(BaseTransform):
    """Shift, scale and add noise to Hounsfield units, as scanners and contrast timing do.

    Args:
        shift: largest offset in HU, either way.
        stretch: largest relative change of the distance to water (0 HU), either way.
        noise: largest standard deviation of added Gaussian noise in HU.
        probability: probability that a slice is changed.
    """

    def __init__(
        self,
        shift: float = 15.0,
        stretch: float = 0.08,
        noise: float = 10.0,
        probability: float = 0.8,
    ) -> None:
        self.shift = shift
        self.stretch = stretch
        self.noise = noise
        self.probability = probability

    def transform(self, results: dict) -> dict:
        rng = results["rng"]
        if rng.random() >= self.probability:
            return results
        gain = 1 + rng.uniform(-self.stretch, self.stretch)
        offset = rng.uniform(-self.shift, self.shift)
        hu = results["hu"].astype(np.float32) * np.float32(gain) + np.float32(offset)
        sigma = rng.uniform(0, self.noise)
        if sigma > 0:
            hu += rng.standard_normal(hu.shape, dtype=np.float32) * np.float32(sigma)
        info = np.iinfo(np.int16)
        results["hu"] = np.rint(hu).clip(info.min, info.max).astype(np.int16)
        return results


@TRANSFORMS.register_module()
class CTWindows(BaseTransform):
    """Apply CT windows to the slice, one channel each.

    Args:
        windows: names of :data:`pe_unified.ct.windows.WINDOWS` or (level, width) pairs. With 2.5D
            input, every window is applied to every slice, and all windows of a slice come before
            those of the next slice.

    Adds ``img``: uint8 (channels, rows, cols), 0 below and 255 above the window.
    """

    def __init__(self, windows: Sequence = ("lung", "pe", "mediastinal")) -> None:
        if not windows:
            raise ValueError("CTWindows needs at least one window")
        self.windows = [resolve_window(window) for window in windows]

    def transform(self, results: dict) -> dict:
        hu = np.moveaxis(results["hu"], -1, 0)
        seen = [window_to_uint8(hu, window) for window in self.windows]
        results["img"] = np.stack(seen, axis=1).reshape(-1, *hu.shape[1:])
        return results
