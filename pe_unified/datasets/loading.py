"""From files to arrays: the slice in Hounsfield units, and its labels."""

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from pycocotools import mask as coco_mask

from pe_unified.ct.hu import read_slice_png
from pe_unified.ct.lung_boxes import lung_box_of_slice
from pe_unified.datasets.slice_dataset import DatasetError
from pe_unified.registry import TRANSFORMS


def read_stack(paths: Sequence[str], patient_id: str) -> list[np.ndarray]:
    """Read slices of one patient, int16 (rows, cols) each, Hounsfield units.

    Raises:
        DatasetError: a slice cannot be read, or sizes differ; names the patient.
    """
    try:
        loaded = [read_slice_png(path) for path in paths]
    except ValueError as error:
        raise DatasetError(f"patient {patient_id}: {error}") from error
    shapes = {slice_hu.shape for slice_hu in loaded}
    if len(shapes) > 1:
        raise DatasetError(
            f"{paths[0]}: slices of patient {patient_id} differ in size ({sorted(shapes)}), so "
            "they cannot be stacked; convert the patient again"
        )
    return loaded


@TRANSFORMS.register_module()
class LoadCTSlice(BaseTransform):
    """Read a slice, with its neighbours if the dataset requires them.

    Adds ``hu``: int16 (rows, cols, slices), Hounsfield units, with this slice in the middle of the
    last axis; ``ori_shape`` (rows, cols); ``crop_box`` (x0, y0, x1, y1), the whole slice;
    ``img_shape`` (rows, cols) and ``scale_factor`` (x, y), here 1.
    """

    def transform(self, results: dict) -> dict:
        paths = results["slice_paths"]
        unique = list(dict.fromkeys(paths))
        loaded = dict(zip(unique, read_stack(unique, results["patient_id"]), strict=True))
        rows, cols = loaded[unique[0]].shape
        results["hu"] = np.stack([loaded[path] for path in paths], axis=-1)
        results["ori_shape"] = results["img_shape"] = (rows, cols)
        results["crop_box"] = (0, 0, cols, rows)
        results["scale_factor"] = (1.0, 1.0)
        return results


@TRANSFORMS.register_module()
class LoadPELabels(BaseTransform):
    """Decode the masks of a slice.

    Adds ``instance_map``: uint16 (rows, cols), 0 background, k the k-th embolus; None where masks
    are unknown. Boxes and label are already present. After the geometric transforms (as in test
    pipelines), labels keep the geometry of the stored slice; before them, they are transformed with
    the image.
    """

    def transform(self, results: dict) -> dict:
        if results["masks"] is None:
            results["instance_map"] = None
            return results
        rows, cols = results["ori_shape"]
        instances = np.zeros((rows, cols), dtype=np.uint16)
        for number, rle in enumerate(results["masks"], start=1):
            if list(rle["size"]) != [rows, cols]:
                raise DatasetError(
                    f"{results['img_path']}: a mask of size {rle['size']} on a slice of "
                    f"{[rows, cols]}; run pe-unified verify on the set"
                )
            instances[coco_mask.decode(rle).astype(bool)] = number
        results["instance_map"] = instances
        return results


@TRANSFORMS.register_module()
class LoadLungBox(BaseTransform):
    """The box around the lungs on a slice, from its Hounsfield units, as its only box.

    For a data set with ``label="lung"``. Sets ``boxes``: float32 (1, 4) x1 y1 x2 y2, (0, 4) on a
    slice without lung; None if the set has no information on lungs, or if too little lung is
    visible.
    """

    def transform(self, results: dict) -> dict:
        share, within = results["lung_share"], results["lung_box"]
        results["boxes"] = None
        if share == 0:
            results["boxes"] = np.empty((0, 4), np.float32)
        elif share is not None and within is not None:
            middle = results["hu"][..., results["hu"].shape[-1] // 2]
            box = lung_box_of_slice(middle, results["spacing_mm"] or (None,) * 3, within)
            if box is not None:
                results["boxes"] = np.array([box], dtype=np.float32)
        return results
