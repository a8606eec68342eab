"""Checks the decoded slices and masks of a converted folder; run by workers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pe_unified.converters.contract import hu_check
from pe_unified.converters.contract.fingerprint import SlicePrint, slice_print
from pe_unified.converters.contract.schema import decode_mask, union_mask
from pe_unified.ct.hu import read_slice_png

#: An entry of ``images[]``, its annotations, and those it would get from masks in reversed order.
Checked = tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]


@dataclass
class PixelFindings:
    """Findings on some slices of a patient."""

    patient_id: str
    faults: list[str] = field(default_factory=list)
    statistics: hu_check.HuStatistics = field(default_factory=hu_check.HuStatistics)
    prints: list[SlicePrint] = field(default_factory=list)


def check_slices(
    root: Path, patient_id: str, slices: Sequence[Checked], prints: bool = False
) -> PixelFindings:
    """Decode each slice and its masks; ``prints``: also take the fingerprints of the slices."""
    cv2.setNumThreads(1)
    found = PixelFindings(patient_id)
    for image, annotations, mirrored in slices:
        where = image["file_name"]
        try:
            hu = read_slice_png(root / where)
        except FileNotFoundError:
            continue  # the listing reports a missing file once
        except ValueError as error:
            found.faults.append(f"{where}: {error}")
            continue
        if hu.shape != (image["height"], image["width"]):
            size = f"{image['height']} x {image['width']}"
            found.faults.append(f"{where}: {hu.shape[0]} x {hu.shape[1]} pixels, listed as {size}")
            continue
        if prints:
            found.prints.append(slice_print(where, hu))
        union = np.zeros(hu.shape, dtype=np.uint8)
        for annotation in annotations:
            if annotation["segmentation"]:
                faults = _mask_faults(annotation, union)
                found.faults += [f"{where}, annotation {annotation['id']}: {f}" for f in faults]
        reversed_order = [each for each in mirrored if _fits(each, hu)]
        found.statistics.add(
            hu_check.measure(hu, union if union.any() else None, union_mask(reversed_order))
        )
    return found


def _fits(annotation: dict[str, Any], hu: np.ndarray) -> bool:
    code = annotation["segmentation"]
    if not isinstance(code, dict) or tuple(code.get("size", ())) != hu.shape:
        return False
    return not _mask_faults(annotation, np.zeros(hu.shape, dtype=np.uint8))


def _mask_faults(annotation: dict[str, Any], union: np.ndarray) -> list[str]:
    """Check one mask against its stored numbers; its pixels are added to ``union``."""
    code = annotation["segmentation"]
    if not isinstance(code, dict) or tuple(code.get("size", ())) != union.shape:
        return ["the mask is not a run-length code of the slice's size"]
    if not isinstance(code.get("counts"), str):
        return ["the counts of the mask are not text"]
    try:
        mask = decode_mask(code)
    except Exception as error:  # pycocotools may raise anything
        return [f"the mask cannot be decoded ({error})"]
    faults = []
    if not mask.any():
        return ["the mask is empty"]
    area = int(mask.sum())
    if area != annotation["area"]:
        faults.append(f"area {annotation['area']}, the mask has {area} pixels")
    count, _ = cv2.connectedComponents(mask, connectivity=8)
    if count != 2:
        faults.append(f"the mask has {count - 1} components, not one")
    ys, xs = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    tight = [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]
    if list(annotation["bbox"]) != tight:
        faults.append(f"box {annotation['bbox']}, the mask's is {tight}")
    if (union & mask).any():
        faults.append("the mask overlaps another one")
    union |= mask
    return faults
