"""Effects of the scanner: blur, noise, streaks, motion, and the round field of view."""

import cv2
import numpy as np

from pe_unified.phantom.grid import Grid
from pe_unified.phantom.study_plan import PaintingPlan


def _blurred(plane: np.ndarray, sigma_mm: float, grid: Grid) -> np.ndarray:
    sigma = sigma_mm / grid.pixel
    return plane if sigma < 0.2 else cv2.GaussianBlur(plane, (0, 0), sigma)


class Scanner:
    """Turns painted attenuation into slices as a scanner would produce them, one after another.

    Args:
        grid: of the study.
        dense: (x, y) of the densest contrast (the superior vena cava) by slice, NaN without.
    """

    def __init__(self, plan: PaintingPlan, grid: Grid, dense: np.ndarray) -> None:
        self.plan, self.grid, self.dense = plan, grid, dense
        self.rng = plan.rng("scanner")
        self.noise_rng = plan.rng("noise")
        x, y, _ = grid.axes()
        self.x, self.y = x[0], y[0]
        middle = (float(self.x.mean()), float(self.y.mean()))
        far = np.sqrt((self.x - middle[0]) ** 2 + (self.y - middle[1]) ** 2)
        reach = min(grid.shape[2] * grid.spacing[2], grid.shape[1] * grid.spacing[1]) / 2
        self.outside = far > reach
        self.depth = np.exp(-((far / 120) ** 2)).astype(np.float32)
        # The spine and the tissue around it do not move.
        self.free = np.clip(1.35 - np.maximum(self.y - middle[1], 0) / 70, 0, 1)
        self.previous = np.zeros(grid.shape[1:], dtype=np.float32)
        # A soft kernel removes the finest grain from the noise, and thin slices share some noise.
        self.grain = 0.55 * max(0.75 / grid.pixel, 0.55)
        self.grain_scale = _grain_scale(self.grain)
        self.kept = float(np.exp(-grid.spacing[0] / 1.2))
        self.streak_phase = self.rng.uniform(0, 2 * np.pi, 6)
        self.streak_rate = self.rng.integers(3, 17, 6)
        self.motion = self._motion_track()

    def _motion_track(self) -> np.ndarray:
        """(slices, 2) shift in mm between the two contours of a moving chest; 0 = still."""
        count = self.grid.shape[0]
        track = np.zeros((count, 2))
        if self.plan.qa_motion:
            for _ in range(int(self.rng.integers(2, 4))):
                middle, half = self.rng.uniform(0.15, 0.8) * count, self.rng.uniform(0.07, 0.16)
                shape = np.exp(-(((np.arange(count) - middle) / (half * count)) ** 2))
                way = self.rng.uniform(0, 2 * np.pi)
                size = self.rng.uniform(3.0, 6.0)
                track += shape[:, None] * size * np.array([np.cos(way), np.sin(way)])
            track /= np.maximum(np.hypot(*track.T) / 6.5, 1)[:, None]
        return track

    def _moved(self, plane: np.ndarray, k: int) -> np.ndarray:
        shift = self.motion[k]
        size = float(np.hypot(*shift))
        if size < 0.5:
            return plane
        copies = []
        # The chest rests at both ends of its motion: two contours, and a blur between them.
        for part in np.linspace(-0.5, 0.5, 7):
            move = np.array(
                [
                    [1, 0, part * shift[0] / self.grid.spacing[2]],
                    [0, 1, part * shift[1] / self.grid.spacing[1]],
                ]
            )
            copies.append(
                cv2.warpAffine(
                    plane,
                    move,
                    plane.shape[::-1],
                    flags=cv2.INTER_LINEAR,
                    borderMode=cv2.BORDER_REPLICATE,
                )
            )
        blurred = 0.22 * (copies[0] + copies[-1]) + 0.112 * sum(copies[1:-1])
        return plane + self.free * (blurred - plane)

    def _streaks(self, k: int) -> np.ndarray | None:
        at = self.dense[k]
        strength = self.plan.streaks * max(self.plan.svc_hu - 450, 0) / 1000
        if not np.isfinite(at[0]) or strength <= 0:
            return None
        dx, dy = self.x - np.float32(at[0]), self.y - np.float32(at[1])
        far = np.sqrt(dx * dx + dy * dy)
        angle = np.arctan2(dy, dx)
        turn = 0.15 * k
        wave = np.zeros_like(far)
        for phase, rate in zip(self.streak_phase, self.streak_rate):
            wave += np.cos(np.float32(rate) * angle + np.float32(phase + turn * (rate % 3 - 1)))
        wave = np.sign(wave) * np.abs(wave / 3) ** np.float32(1.6)
        fade = np.exp(-far / 42) * np.clip(far / 9 - 0.6, 0, 1)
        return np.float32(150 * strength) * wave * fade

    def _noise(self, plane: np.ndarray) -> np.ndarray:
        white = self.noise_rng.standard_normal(plane.shape, dtype=np.float32)
        fine = np.asarray(cv2.GaussianBlur(white, (0, 0), self.grain))
        wide = np.asarray(cv2.GaussianBlur(white, (0, 0), 2.6 * self.grain))
        grain = (fine - np.float32(0.35) * wide) / np.float32(self.grain_scale)
        self.previous = self.kept * self.previous + np.float32(np.sqrt(1 - self.kept**2)) * grain
        averaged = min(np.sqrt(0.75 / self.grid.pixel), 1.2)
        level = np.float32(self.plan.noise_hu * averaged) * (0.6 + 0.6 * self.depth)
        return self.previous * level

    def scan(self, plane: np.ndarray, k: int) -> np.ndarray:
        """Slice ``k``, float32 (rows, cols) in HU, as int16 with air outside the round field."""
        plane = _blurred(self._moved(plane, k), self.plan.sharpness_mm, self.grid)
        streaks = self._streaks(k)
        if streaks is not None:
            plane = plane + np.where(plane > -950, streaks, 0.3 * streaks)
        plane = plane + self._noise(plane)
        plane = np.clip(np.rint(plane), -1024, 3071)
        plane[self.outside] = -1024
        return plane.astype(np.int16)


def _grain_scale(sigma: float) -> float:
    """Standard deviation of the band-passed noise, from its kernel's energy."""
    size = int(10 * 2.6 * sigma) | 1
    point = np.zeros((size, size), dtype=np.float64)
    point[size // 2, size // 2] = 1
    kernel = cv2.GaussianBlur(point, (0, 0), sigma) - 0.35 * cv2.GaussianBlur(
        point, (0, 0), 2.6 * sigma
    )
    return float(np.sqrt((kernel**2).sum()))
