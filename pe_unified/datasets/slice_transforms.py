"""Geometric transforms of a slice: crop, resize, flip, rotation, elastic deformation.

Every transform applies the same map to image, masks and boxes. Boxes of emboli with masks are
computed from the transformed masks, so they stay tight. The map depends only on the draw: if it
depended on which labels are known, it would reveal the label.
"""

from collections.abc import Callable

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from scipy.ndimage import find_objects

from pe_unified.ct.hu import HU_MIN
from pe_unified.registry import TRANSFORMS


def boxes_of_instances(instance_map: np.ndarray) -> np.ndarray:
    """Tight boxes of the emboli in an instance map.

    Args:
        instance_map: uint16 (rows, cols), 0 background.

    Returns:
        float32 (n, 4), x1 y1 x2 y2 in pixels, x2 and y2 exclusive; ascending instance number.
    """
    found = (extent for extent in find_objects(instance_map) if extent is not None)
    boxes = [(cols.start, rows.start, cols.stop, rows.stop) for rows, cols in found]
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def _update_boxes(results: dict, matrix: np.ndarray) -> None:
    """Boxes after ``matrix`` (2, 3): from the masks if known, else from the ellipses inscribed.

    Turned corners would make a box too large.
    """
    if results.get("boxes") is None:
        return
    if results.get("instance_map") is not None:
        results["boxes"] = boxes_of_instances(results["instance_map"])
        return
    rows, cols = results["img_shape"]
    low, high = np.split(results["boxes"], 2, axis=1)
    centre = (low + high) / 2 @ matrix[:, :2].T + matrix[:, 2]
    half = np.sqrt(((high - low) / 2) ** 2 @ (matrix[:, :2] ** 2).T)
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    boxes = boxes.clip(0, [cols, rows, cols, rows]).astype(np.float32)
    visible = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    results["boxes"] = boxes[visible]


def _boxes_of_sources(boxes: np.ndarray, source_x: np.ndarray, source_y: np.ndarray) -> np.ndarray:
    """Tight boxes of the new pixels whose sources are in the ellipses in the old boxes.

    Boxes out of view are left out.

    Args:
        boxes: float32 (n, 4), x1 y1 x2 y2, pixel edges.
        source_x, source_y: float32 (rows, cols), old coordinates of every new pixel's centre.
    """
    moved = [np.empty((0, 4), np.float32)]
    # Edges are half a pixel before the centres. A quarter of a pixel keeps thin boxes.
    for x1, y1, x2, y2 in boxes - 0.5:
        across = (2 * source_x - x1 - x2) / (x2 - x1 + 0.5)
        along = (2 * source_y - y1 - y2) / (y2 - y1 + 0.5)
        moved.append(boxes_of_instances((across**2 + along**2 <= 1).astype(np.uint16)))
    return np.concatenate(moved)


def _four_at_a_time(transform: Callable[[np.ndarray], np.ndarray], stack: np.ndarray) -> np.ndarray:
    """Apply an OpenCV function to a stack of slices; some functions take at most four channels.

    ``stack``: (rows, cols) or (rows, cols, slices); the result has as many axes.
    """
    if stack.ndim == 2:
        return transform(np.ascontiguousarray(stack))
    parts = [
        np.atleast_3d(transform(np.ascontiguousarray(stack[..., first : first + 4])))
        for first in range(0, stack.shape[2], 4)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def _rows_and_cols(size: int | tuple[int, int]) -> tuple[int, int]:
    rows, cols = (size, size) if isinstance(size, int) else size
    return rows, cols


def _labels_follow(results: dict) -> bool:
    """Whether labels are loaded and transformed with the image; else they keep stored geometry."""
    return "instance_map" in results


@TRANSFORMS.register_module()
class CropToLungs(BaseTransform):
    """Crop to the study's lungs with a margin, in the shape of the network's input.

    The lung box covers the whole study, so every slice of a study gets the same crop and
    neighbouring slices stay aligned. A study without a lung box keeps the whole slice. If a crop of
    the input's shape around the lungs does not fit into the slice, the lungs are kept whole in a
    crop of another shape.

    Args:
        margin_mm: added on each side; if spacing is unknown, pixels count as 0.7 mm.
        jitter: in training, each side moves by up to this fraction of the crop's size.
        size: rows and cols of the network's input, or one number for both. The crop has the same
            ratio, as far as the slice allows, so that resizing does not distort it. Lungs are wider
            than deep: 3:4 needs a quarter fewer pixels than 1:1.
    """

    def __init__(
        self,
        margin_mm: float = 10.0,
        jitter: float = 0.0,
        size: int | tuple[int, int] = 1,
    ) -> None:
        self.margin_mm = margin_mm
        self.jitter = jitter
        self.size = _rows_and_cols(size)

    def transform(self, results: dict) -> dict:
        if results.get("lung_box") is None:
            return results
        rows, cols = results["img_shape"]
        x, y, width, height = results["lung_box"]
        spacing = results["spacing_mm"][1] if results.get("spacing_mm") else None
        margin = self.margin_mm / (spacing or 0.7)
        ratio = self.size[0] / self.size[1]
        wide = max(width + 2 * margin, (height + 2 * margin) / ratio)
        centre_x, centre_y = x + width / 2, y + height / 2
        if self.jitter:
            shift_x, shift_y, grow = results["rng"].uniform(-self.jitter, self.jitter, 3) * wide
            centre_x, centre_y, wide = centre_x + shift_x, centre_y + shift_y, wide + grow
        high = max(round(min(wide * ratio, rows)), 1)
        wide = max(round(min(wide, cols)), 1)
        x0 = round(min(max(centre_x - wide / 2, 0), cols - wide))
        y0 = round(min(max(centre_y - high / 2, 0), rows - high))
        results["hu"] = results["hu"][y0 : y0 + high, x0 : x0 + wide]
        results["img_shape"] = (high, wide)
        results["crop_box"] = (x0, y0, x0 + wide, y0 + high)
        if _labels_follow(results):
            if results["instance_map"] is not None:
                results["instance_map"] = results["instance_map"][y0 : y0 + high, x0 : x0 + wide]
            _update_boxes(results, np.array([[1.0, 0, -x0], [0, 1.0, -y0]]))
        return results


@TRANSFORMS.register_module()
class ResizeSlice(BaseTransform):
    """Resize the crop to the network's input size.

    Args:
        size: rows and cols, or one number for both. A crop of another shape is distorted. Shrinking
            averages pixels, enlarging interpolates; masks use the nearest pixel.
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        self.size = _rows_and_cols(size)

    def transform(self, results: dict) -> dict:
        rows, cols = results["img_shape"]
        new_rows, new_cols = self.size
        if (rows, cols) != self.size:
            shrinks = new_rows < rows or new_cols < cols
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            results["hu"] = _four_at_a_time(
                lambda part: cv2.resize(part, (new_cols, new_rows), interpolation=method),
                results["hu"],
            )
        scale_x, scale_y = new_cols / cols, new_rows / rows
        results["img_shape"] = self.size
        results["scale_factor"] = (scale_x, scale_y)
        if _labels_follow(results):
            if results["instance_map"] is not None and (rows, cols) != self.size:
                results["instance_map"] = cv2.resize(
                    np.ascontiguousarray(results["instance_map"]),
                    (new_cols, new_rows),
                    interpolation=cv2.INTER_NEAREST_EXACT,
                )
            _update_boxes(results, np.array([[scale_x, 0, 0], [0, scale_y, 0]]))
        return results


@TRANSFORMS.register_module()
class RandomSliceGeometry(BaseTransform):
    """Flip, rotate, scale, shift and deform in one interpolation; the size is kept.

    Use it only in training, after :class:`LoadPELabels`: predictions are not mapped back through
    it.

    Adds ``mirrored``: whether left and right are exchanged.

    Args:
        flip: probability of a left-right flip.
        rotate: largest rotation in degrees, either way.
        scale: range of the zoom factor.
        shift: largest shift as a fraction of the size, either way.
        elastic: probability of an elastic deformation.
        elastic_amplitude: its largest displacement in pixels.
        elastic_grid: control points along a side; fewer give a smoother deformation.
    """

    def __init__(
        self,
        flip: float = 0.5,
        rotate: float = 10.0,
        scale: tuple[float, float] = (0.9, 1.1),
        shift: float = 0.05,
        elastic: float = 0.0,
        elastic_amplitude: float = 4.0,
        elastic_grid: int = 6,
    ) -> None:
        self.flip = flip
        self.rotate = rotate
        self.scale = tuple(scale)
        self.shift = shift
        self.elastic = elastic
        self.elastic_amplitude = elastic_amplitude
        self.elastic_grid = elastic_grid

    def draw_matrix(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """Forward map (2, 3) from old to new pixel coordinates (pixel centres)."""
        rows, cols = shape
        angle = np.deg2rad(rng.uniform(-self.rotate, self.rotate))
        zoom = rng.uniform(*self.scale)
        shift = rng.uniform(-self.shift, self.shift, 2) * (cols, rows)
        mirror = -1.0 if rng.random() < self.flip else 1.0
        cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
        linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([mirror, 1.0])
        centre = np.array([(cols - 1) / 2, (rows - 1) / 2])
        return np.column_stack([linear, centre + shift - linear @ centre])

    def transform(self, results: dict) -> dict:
        if not _labels_follow(results):
            raise RuntimeError("RandomSliceGeometry stands after LoadPELabels, in training only")
        rng = results["rng"]
        rows, cols = results["img_shape"]
        matrix = self.draw_matrix(rng, (rows, cols))
        results["mirrored"] = bool(np.linalg.det(matrix[:, :2]) < 0)
        if rng.random() < self.elastic:
            self._deform(results, *self._elastic_sources(rng, matrix, (rows, cols)))
        else:
            self._move(results, matrix)
        return results

    def _deform(self, results: dict, source_x: np.ndarray, source_y: np.ndarray) -> None:
        results["hu"] = self._remap(results["hu"], source_x, source_y, cv2.INTER_LINEAR, HU_MIN)
        instances, boxes = results["instance_map"], results.get("boxes")
        if instances is not None:
            instances = self._remap(instances, source_x, source_y, cv2.INTER_NEAREST, 0)
            results["instance_map"] = instances
        if boxes is not None and instances is not None:
            results["boxes"] = boxes_of_instances(instances)
        elif boxes is not None:
            results["boxes"] = _boxes_of_sources(boxes, source_x, source_y)

    def _move(self, results: dict, matrix: np.ndarray) -> None:
        instances = results["instance_map"]
        results["hu"] = self._warp(results["hu"], matrix, cv2.INTER_LINEAR, HU_MIN)
        if instances is not None:
            results["instance_map"] = self._warp(instances, matrix, cv2.INTER_NEAREST, 0)
        # Boxes are pixel edges, half a pixel before the centres that the matrix maps.
        edges = matrix.copy()
        edges[:, 2] += 0.5 - matrix[:, :2] @ np.array([0.5, 0.5])
        _update_boxes(results, edges)

    @staticmethod
    def _warp(image: np.ndarray, matrix: np.ndarray, flags: int, fill: int) -> np.ndarray:
        def move(part: np.ndarray) -> np.ndarray:
            return cv2.warpAffine(
                part,
                matrix,
                (image.shape[1], image.shape[0]),
                flags=flags,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=[fill] * 4,
            )

        return _four_at_a_time(move, image)

    @staticmethod
    def _remap(
        image: np.ndarray, source_x: np.ndarray, source_y: np.ndarray, flags: int, fill: int
    ) -> np.ndarray:
        def move(part: np.ndarray) -> np.ndarray:
            return cv2.remap(
                part,
                source_x,
                source_y,
                interpolation=flags,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=[fill] * 4,
            )

        return _four_at_a_time(move, image)

    def _elastic_sources(
        self, rng: np.random.Generator, matrix: np.ndarray, shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Source coordinates (x, y) of every new pixel: affine, then a smooth displacement."""
        rows, cols = shape
        inverse = cv2.invertAffineTransform(matrix)
        x, y = np.meshgrid(np.arange(cols), np.arange(rows))
        grid = (self.elastic_grid, self.elastic_grid, 2)
        control = rng.uniform(-1, 1, grid).astype(np.float32) * self.elastic_amplitude
        control[[0, -1]] = 0
        control[:, [0, -1]] = 0
        displacement = cv2.resize(control, (cols, rows), interpolation=cv2.INTER_CUBIC)
        source_x = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2] + displacement[..., 0]
        source_y = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2] + displacement[..., 1]
        return source_x.astype(np.float32), source_y.astype(np.float32)
