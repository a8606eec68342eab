"""The sample of one slice."""

import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData


class PEDataSample(BaseDataElement):
    """Labels and predictions of one CT slice; every field is optional.

    A field that is absent is *unknown*: no head learns from it and no metric counts it. A slice
    known to have no embolus has ``gt_label`` 0, an all-zero ``gt_sem_seg`` and ``gt_instances`` of
    length 0.

    Fields (the names of mmpretrain, mmseg and mmdet, whose heads take them unchanged):
        gt_label: int64 (1,), 1 where the slice shows pulmonary embolism.
        gt_sem_seg: ``PixelData``, ``data`` uint8 or int64 (1, rows, cols), 1 = embolus.
        gt_instances: ``InstanceData`` with ``bboxes`` float32 (n, 4), x1 y1 x2 y2 in pixels
            (x2, y2 exclusive), and ``labels`` int64 (n,), all 0.
        pred_score: float32 (classes,), probabilities; index 1 is embolism.
        pred_sem_seg: ``PixelData``, ``data`` uint8 (1, rows, cols).
        seg_prob: ``PixelData``, ``data`` float32 (1, rows, cols), probability of embolus.
        pred_instances: ``InstanceData`` with ``bboxes``, ``scores`` and ``labels``.

    Predictions are in the geometry of the stored slice, even if it was cropped or resized.

    Meta information:
        img_id, img_path, patient_id, study_uid, series_uid, sop_uid, slice_index, z_mm,
        spacing_mm (row, col, slice);
        ori_shape: (rows, cols) of the stored slice;
        crop_box: (x0, y0, x1, y1), the part of the stored slice that the network sees;
        img_shape: (rows, cols) of the network's input;
        scale_factor: (x, y) = input size / crop size.
    """

    def set_gt_label(self, value: int) -> "PEDataSample":
        self.set_field(torch.tensor([int(value)], dtype=torch.int64), "gt_label")
        return self

    def set_gt_sem_seg(self, mask: torch.Tensor) -> "PEDataSample":
        """``mask``: (rows, cols), 0 or 1."""
        self.set_field(PixelData(data=mask[None]), "gt_sem_seg")
        return self

    def set_gt_boxes(self, boxes: torch.Tensor) -> "PEDataSample":
        """``boxes``: float32 (n, 4), x1 y1 x2 y2."""
        labels = torch.zeros(len(boxes), dtype=torch.int64)
        self.set_field(InstanceData(bboxes=boxes.reshape(-1, 4), labels=labels), "gt_instances")
        return self
