"""From arrays to the model's input."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.registry import TRANSFORMS

META_KEYS = (
    "img_id",
    "img_path",
    "patient_id",
    "group",
    "study_uid",
    "series_uid",
    "sop_uid",
    "slice_index",
    "z_mm",
    "spacing_mm",
    "labels_known",
    "exam_labels",
    "ori_shape",
    "crop_box",
    "img_shape",
    "scale_factor",
    "emboli",
)


@TRANSFORMS.register_module()
class PackPEInputs(BaseTransform):
    """Return ``{"inputs": uint8 (channels, rows, cols), "data_samples": PEDataSample}``.

    A label is packed only if it is known. A crop or rotation may move every embolus of a positive
    slice out of view; if masks are known, the label says whether any is still visible.
    """

    def transform(self, results: dict) -> dict:
        sample = PEDataSample(metainfo={key: results[key] for key in META_KEYS if key in results})
        label = results["label"]
        instances = results.get("instance_map")
        if instances is not None:
            mask = np.ascontiguousarray(instances > 0, dtype=np.uint8)
            sample.set_gt_sem_seg(torch.from_numpy(mask))
            if label is not None:
                label = int(mask.any())
        if label is not None:
            sample.set_gt_label(label)
        if results["boxes"] is not None:
            sample.set_gt_boxes(torch.from_numpy(np.ascontiguousarray(results["boxes"])))
        return {
            "inputs": torch.from_numpy(np.ascontiguousarray(results["img"])),
            "data_samples": sample,
        }
