"""From the network's grid back to the stored slice.

The pipeline may crop a slice (``crop_box``) and resize the crop (``scale_factor``), and the
preprocessor pads to the right and below. The model returns predictions in the geometry of the
stored slice, so later code need not know about this.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import Tensor


@dataclass(frozen=True)
class SliceGeometry:
    """Position of a network input in its stored slice.

    Attributes:
        ori_shape: (rows, cols) of the stored slice.
        crop_box: (x0, y0, x1, y1), the part of the slice that the network saw; may extend beyond
            it.
        img_shape: (rows, cols) of the network's input without padding.
    """

    ori_shape: tuple[int, int]
    crop_box: tuple[int, int, int, int]
    img_shape: tuple[int, int]

    @classmethod
    def of(cls, sample: BaseDataElement) -> "SliceGeometry":
        """From a sample's metainfo; missing keys mean no crop or no resize."""
        meta = sample.metainfo
        if "img_shape" not in meta:
            raise KeyError(
                "sample without 'img_shape' in its metainfo: predictions cannot be placed in "
                "the slice; pass the batch through PEDataPreprocessor"
            )
        rows, cols = (int(side) for side in meta["img_shape"][:2])
        ori_rows, ori_cols = (int(side) for side in meta.get("ori_shape", (rows, cols))[:2])
        box = meta.get("crop_box")
        crop = (0, 0, ori_cols, ori_rows) if box is None else tuple(int(edge) for edge in box)
        if crop[2] <= crop[0] or crop[3] <= crop[1]:
            raise ValueError(f"crop_box {crop} is empty; it is (x0, y0, x1, y1)")
        return cls((ori_rows, ori_cols), crop, (rows, cols))

    @property
    def scale(self) -> tuple[float, float]:
        """(x, y) = input size / crop size."""
        x0, y0, x1, y1 = self.crop_box
        return self.img_shape[1] / (x1 - x0), self.img_shape[0] / (y1 - y0)

    def map_to_slice(self, values: Tensor) -> Tensor:
        """Map values from the padded network grid to the slice.

        Args:
            values: float (channels, rows, cols), rows and cols at least ``img_shape``.

        Returns:
            (channels, rows, cols) of the stored slice; 0 outside the crop. Bilinear if the crop was
            resized, exact if it was not.
        """
        rows, cols = self.img_shape
        x0, y0, x1, y1 = self.crop_box
        values = values[:, :rows, :cols]
        if (rows, cols) != (y1 - y0, x1 - x0):
            values = F.interpolate(
                values[None], size=(y1 - y0, x1 - x0), mode="bilinear", align_corners=False
            )[0]
        if self.crop_box == (0, 0, self.ori_shape[1], self.ori_shape[0]):
            return values.contiguous()
        whole = values.new_zeros(values.shape[0], *self.ori_shape)
        top, left = max(y0, 0), max(x0, 0)
        bottom, right = min(y1, self.ori_shape[0]), min(x1, self.ori_shape[1])
        if bottom > top and right > left:
            whole[:, top:bottom, left:right] = values[
                :, top - y0 : bottom - y0, left - x0 : right - x0
            ]
        return whole

    def boxes_to_slice(self, boxes: Tensor) -> Tensor:
        """Boxes of the network grid, float (n, 4) x1 y1 x2 y2, in pixels of the slice.

        They are clipped to the slice.
        """
        x0, y0 = self.crop_box[:2]
        x_scale, y_scale = self.scale
        boxes = boxes / boxes.new_tensor([x_scale, y_scale, x_scale, y_scale])
        boxes = boxes + boxes.new_tensor([x0, y0, x0, y0])
        rows, cols = self.ori_shape
        limit = boxes.new_tensor([cols, rows, cols, rows])
        return boxes.clamp(min=0).minimum(limit)
