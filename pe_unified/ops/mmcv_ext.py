"""The operators of ``mmcv._ext`` that Faster R-CNN needs, on torchvision.

``nms`` is the only one: RoIAlign is used with ``use_torchvision=True``. Every other name resolves
to a function that raises when called, so that mmcv can be imported completely.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torchvision.ops import nms as torchvision_nms

#: Marks this implementation; a compiled ``mmcv._ext`` has no such attribute.
PE_UNIFIED_FALLBACK = True


def nms(bboxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int):
    """Greedy non-maximum suppression.

    Args:
        bboxes: float (n, 4), x1 y1 x2 y2 in pixels.
        scores: float (n,).
        iou_threshold: boxes that overlap a better one by more than this are dropped.
        offset: 0 for continuous coordinates (width = x2 - x1), 1 for the older pixel
            convention (width = x2 - x1 + 1).

    Returns:
        int64 (k,): indices of the kept boxes, best first.
    """
    if offset not in (0, 1):
        raise ValueError(f"nms: offset is 0 or 1, got {offset}")
    if offset:
        bboxes = bboxes + bboxes.new_tensor([0, 0, 1, 1])
    return torchvision_nms(bboxes.float(), scores.float(), iou_threshold)


def get_compiler_version() -> str:
    return "none (torchvision fallback of pe_unified)"


def get_compiling_cuda_version() -> str:
    return "none (torchvision fallback of pe_unified)"


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing_operator(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"mmcv operator '{name}' was called, but this mmcv has no compiled operators. "
            "Install an mmcv that was built with its operators, or choose a model that does "
            "not need it (RoIAlign: set use_torchvision=True)."
        )

    missing_operator.__name__ = name
    return missing_operator
