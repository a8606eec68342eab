"""From an exam's slices to arrays, and from arrays to the inputs of an exam model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from pe_unified.ct.exam_labels import with_sides_exchanged
from pe_unified.datasets.exam_sample import PEExamSample
from pe_unified.datasets.feature_store import FeatureError
from pe_unified.datasets.loading import read_stack
from pe_unified.registry import TRANSFORMS

_META = (
    *("patient_id", "group", "study_uid", "img_path", "step_ids", "z_mm"),
    *("ori_shape", "crop_box", "img_shape", "scale_factor"),
)


def with_stack(results: dict, read: Callable[[Any], np.ndarray]) -> dict:
    """Add all planes of an exam's steps as one stack, so that all are transformed alike.

    Adds ``hu``: int16 (rows, cols, steps x planes), Hounsfield units; ``ori_shape``, ``crop_box``,
    ``img_shape`` and ``scale_factor`` like :class:`~pe_unified.datasets.LoadCTSlice`. Masks and
    boxes are not added.

    Args:
        results: with ``planes``: for every step, its planes as lists of slices with their weights.
        read: reads a slice by its name in ``planes``, int16 (rows, cols), Hounsfield units.
    """
    planes = [plane for step in results["planes"] for plane in step]
    rows, cols = read(planes[0][0][0]).shape
    hu = np.empty((rows, cols, len(planes)), dtype=np.int16)
    for index, plane in enumerate(planes):
        hu[..., index] = _mixed([(read(each), share) for each, share in plane])
    results.update(
        hu=hu,
        ori_shape=(rows, cols),
        img_shape=(rows, cols),
        crop_box=(0, 0, cols, rows),
        scale_factor=(1.0, 1.0),
        instance_map=None,
        boxes=None,
    )
    return results


@TRANSFORMS.register_module()
class LoadExamSlices(BaseTransform):
    """Read all planes of an exam's steps; adds the keys of :func:`with_stack`."""

    def transform(self, results: dict) -> dict:
        planes = [plane for step in results["planes"] for plane in step]
        paths = list(dict.fromkeys(path for plane in planes for path, _ in plane))
        stored = dict(zip(paths, read_stack(paths, results["patient_id"]), strict=True))
        return with_stack(results, stored.__getitem__)


def _mixed(parts: list[tuple[np.ndarray, float]]) -> np.ndarray:
    if len(parts) == 1:
        return parts[0][0]
    return np.rint(sum(share * slice_hu.astype(np.float32) for slice_hu, share in parts))


@TRANSFORMS.register_module()
class LoadStepFeatures(BaseTransform):
    """Read the stored features of an exam's steps.

    Adds ``features``: float16 (steps, width).

    Raises:
        FeatureError: there are none, or no folder is named.
    """

    def transform(self, results: dict) -> dict:
        if results["store"] is None:
            raise FeatureError(
                "the model reads stored features; name their folder, --cfg-options "
                "features=FOLDER, as pe-unified extract prints it"
            )
        stored = results["store"].read(results["stored"])
        results["features"] = stored[results["rows"]]
        return results


@TRANSFORMS.register_module()
class PackExamInputs(BaseTransform):
    """Return ``{"inputs": ..., "data_samples": PEExamSample}``.

    ``inputs``: uint8 (steps, planes x windows, rows, cols) for slices, (steps, windows, planes,
    rows, cols) for chunks; float16 (steps, width) for features. If the image was mirrored, the
    labels of left and right are exchanged. A study without labels gives a sample without labels.
    """

    def transform(self, results: dict) -> dict:
        sample = PEExamSample(metainfo={key: results[key] for key in _META if key in results})
        if "targets" in results:
            targets = np.array(results["targets"], dtype=np.float32)
            if results.get("mirrored"):
                targets = with_sides_exchanged(targets)
            sample.gt_exam = torch.from_numpy(targets)
            sample.gt_steps = torch.tensor(results["step_labels"], dtype=torch.float32)
        return {"inputs": torch.from_numpy(self._inputs(results)), "data_samples": sample}

    @staticmethod
    def _inputs(results: dict) -> np.ndarray:
        if "features" in results:
            return results["features"]
        steps = len(results["planes"])
        planes = len(results["planes"][0])
        rows, cols = results["img"].shape[1:]
        # Channels run over slices first, then windows.
        image = results["img"].reshape(steps, planes, -1, rows, cols)
        volumes = results["volumes"]
        return np.ascontiguousarray(
            image.swapaxes(1, 2) if volumes else image.reshape(steps, -1, rows, cols)
        )
