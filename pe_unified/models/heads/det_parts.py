"""Configs of mmdet's Faster R-CNN parts, completed from the backbone and each other."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any


def completed_parts(
    in_channels: Sequence[int],
    in_strides: Sequence[int],
    levels: int,
    neck: Mapping[str, Any],
    rpn_head: Mapping[str, Any],
    roi_head: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Configs of neck, RPN and RoI head, as mmdet's ``FasterRCNN`` takes them.

    A config gives the pyramid's width once, as the neck's ``out_channels``. Channels and strides
    that the parts must share are set here; an RPN without ``feat_channels`` is as wide as the
    pyramid.

    Args:
        in_channels, in_strides: the backbone's levels, finest first.
        levels: number of levels that the neck reads. A larger ``num_outs`` of the neck adds levels
            by subsampling the coarsest.
        neck, rpn_head, roi_head: configs; not changed.

    Raises:
        ValueError: the backbone has fewer levels.
    """
    if not 1 <= levels <= len(in_channels):
        raise ValueError(f"levels is 1 to {len(in_channels)}, got {levels}")
    parts = copy.deepcopy({"neck": dict(neck), "rpn_head": dict(rpn_head)})
    roi = copy.deepcopy(dict(roi_head))
    strides = list(in_strides[:levels])
    width = neck["out_channels"]
    outs = parts["neck"].setdefault("num_outs", levels)
    parts["neck"]["in_channels"] = list(in_channels[:levels])
    parts["rpn_head"]["in_channels"] = width
    parts["rpn_head"].setdefault("feat_channels", width)
    extra = [strides[-1] << step + 1 for step in range(outs - levels)]
    parts["rpn_head"]["anchor_generator"]["strides"] = [*strides, *extra]
    roi["bbox_roi_extractor"] |= {"out_channels": width, "featmap_strides": strides}
    size = roi["bbox_roi_extractor"]["roi_layer"]["output_size"]
    roi["bbox_head"] |= {"in_channels": width, "roi_feat_size": size, "num_classes": 1}
    return {**parts, "roi_head": roi}
