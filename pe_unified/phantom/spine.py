"""Vertebrae, painted slice by slice on a patch around the spine."""

from dataclasses import dataclass

import numpy as np

from pe_unified.phantom.grid import Grid, coverage

#: Half-size of the patch, mm.
_REACH = 46.0


@dataclass(frozen=True)
class SpinePatch:
    """Coverage in [0, 1] on a patch of one slice, and the patch's rows and cols as slices."""

    window: tuple[slice, slice]
    bone: np.ndarray
    marrow: np.ndarray
    canal: np.ndarray
    disc: np.ndarray


def spine_patch(
    grid: Grid, z: float, spine: np.ndarray, scale: float, pitch: float
) -> SpinePatch | None:
    """One slice through the spine.

    Args:
        spine: (m, 3) centres of the vertebral bodies, (x, y, z) from bottom to top, mm.
        pitch: distance between vertebrae, mm.
    """
    centre = [float(np.interp(z, spine[:, 2], spine[:, i])) for i in (0, 1)]
    size = scale * float(np.interp(z, [spine[0, 2], spine[-1, 2]], [1.2, 0.86]))
    window, axes = [], []
    for axis, middle in ((1, centre[1] + 22.0), (2, centre[0])):
        spacing, origin = grid.spacing[axis], grid.origin[2 - axis]
        low = max(int((middle - _REACH - origin) / spacing), 0)
        high = min(int((middle + _REACH - origin) / spacing) + 1, grid.shape[axis])
        if low >= high:
            return None
        window.append(slice(low, high))
        axes.append((origin + np.arange(low, high) * spacing - middle).astype(np.float32))
    y, x = axes[0][:, None] + np.float32(22.0), axes[1][None, :]
    phase = (z / pitch) % 1.0
    x, y = x / np.float32(size), y / np.float32(size)

    def ring(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        u, v = (np.abs(x) - cx) / rx if cx else x / rx, (y - cy) / ry
        near = np.sqrt(u * u + v * v)
        return (near - 1) * min(rx, ry)

    waist = 1 - 0.07 * np.sin(np.pi * phase) ** 2
    body = np.maximum(ring(0, 0, 17.5 * waist, 14.5 * waist), 2.5 - (y + 17) * 0.35 - 4)
    canal = ring(0, 21.5, 9.5, 8.2)
    arch = np.maximum(ring(0, 21.5, 14.5, 13), -(y - 12))
    spinous = np.maximum(np.abs(x) - 2.6, np.maximum(30 - y, y - 52 + 10 * phase))
    transverse = np.maximum(
        np.abs(y - 24 - 0.28 * np.abs(x)) - 4.2, np.maximum(10 - np.abs(x), np.abs(x) - 31)
    )
    if 0.25 < phase < 0.62:
        arch = np.minimum(arch, transverse)
    if phase < 0.72:
        arch = np.minimum(arch, spinous)
    pedicle = np.maximum(np.abs(np.abs(x) - 11.5) - 3.4, np.maximum(8 - y, y - 22))
    if 0.3 < phase < 0.75:
        arch = np.minimum(arch, pedicle)
    facet = np.maximum(np.abs(np.abs(x) - 14) - 6.0, np.abs(y - 26) - 5.0)
    if phase < 0.2 or phase > 0.8:
        arch = np.minimum(arch, facet)
    arch = np.maximum(arch, -canal)
    in_disc = np.clip((2.6 - min(phase, 1 - phase) * pitch) / 1.2, 0, 1)
    whole = np.minimum(body, arch) * np.float32(size)
    inside = np.minimum(body + 1.7, arch + 1.9) * np.float32(size)
    return SpinePatch(
        (window[0], window[1]),
        coverage(whole, grid.pixel),
        coverage(inside, grid.pixel),
        coverage(canal * np.float32(size), grid.pixel),
        coverage(body * np.float32(size), grid.pixel) * np.float32(in_disc),
    )
