"""The tasks of a worker: plan a patient, convert a chunk of slices, finish the patient.

Each function only writes files under the patient's temporary folder and is otherwise pure. It runs
in any process or on any machine that sees the disk, and gives the same bytes for any division into
chunks.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pe_unified.converters.contract import hu_check
from pe_unified.converters.contract.schema import union_mask
from pe_unified.converters.pipeline.plan import PatientPlan, PatientSource, Reader, SlicePlan
from pe_unified.ct.hu import encode_slice_png
from pe_unified.ct.lungs import (
    LUNG_MARGIN_MM,
    coarse_lungs,
    search_grid,
    share_of_every_slice,
    shrink_slice,
)
from pe_unified.errors import DataError

#: Modules that worker processes import at the start; none is heavy.
PRELOAD = ("pe_unified.converters.pipeline.worker", "pydicom", "pe_unified.ct.dicom")
HU_CURE = (
    "check that masks and slices belong together and that no file was renamed, removed or "
    "reordered; --no-hu-check converts regardless"
)


@dataclass
class ChunkResult:
    """The result for some slices of a patient, in the order given.

    Attributes:
        sizes: (rows, cols), None if the slice failed.
        coarse: the slice on the search grid for lungs, None if it is not part of it.
        errors: of failed slices.
    """

    sizes: list[tuple[int, int] | None] = field(default_factory=list)
    coarse: list[np.ndarray | None] = field(default_factory=list)
    statistics: hu_check.HuStatistics = field(default_factory=hu_check.HuStatistics)
    errors: list[DataError] = field(default_factory=list)


def plan_patient(reader: Reader, source: PatientSource, scratch: Path) -> PatientPlan | DataError:
    """The reader's plan, or the error if the patient cannot be converted."""
    _one_thread()
    if source.problem is not None:
        return source.problem
    try:
        plan = reader.plan(source, scratch)
        if not any(study.slices for study in plan.studies):
            return DataError(source.patient_id, "no slice to convert", "see the other problems")
    except Exception as error:  # one patient's files must not end the run
        return _as_data_error(error, source.patient_id)
    return plan


def convert_chunk(
    reader: Reader,
    chunk: Sequence[tuple[tuple[float | None, ...], SlicePlan]],
    folder: Path,
) -> ChunkResult:
    """Decode, encode and measure some slices; the PNG files go into ``folder``.

    ``chunk``: the spacing (row, col, slice) in mm with each slice.
    """
    _one_thread()
    result = ChunkResult()
    for spacing, item in chunk:
        try:
            hu = reader.read_slice(item.source)
            _check_shape(hu, item)
        except Exception as error:  # one file must not end the run
            result.errors.append(_as_data_error(error, os.fspath(item.source[0])))
            result.sizes.append(None)
            result.coarse.append(None)
            continue
        (folder / item.file_name).write_bytes(encode_slice_png(hu))
        result.sizes.append((int(hu.shape[0]), int(hu.shape[1])))
        result.coarse.append(_shrink(hu, spacing) if item.in_grid else None)
        result.statistics.add(
            hu_check.measure(hu, union_mask(item.annotations), union_mask(item.mirrored))
        )
    return result


def finish_patient(
    plan: PatientPlan, folder: str, results: Sequence[ChunkResult], whole: bool
) -> dict[str, Any] | DataError:
    """The patient's record (report entry, exams, images, annotations), or the error.

    ``results``: in the order of ``plan.slices()``; ``whole``: one failed slice spoils all.
    """
    _one_thread()
    errors = [error for result in results for error in result.errors]
    if errors and whole:
        more = f" (and {len(errors) - 1} more slices)" if len(errors) > 1 else ""
        return DataError(errors[0].where, errors[0].reason + more, errors[0].cure)
    statistics = hu_check.HuStatistics()
    for result in results:
        statistics.add(result.statistics)
    if plan.check_hu:
        try:
            hu_check.judge(statistics, plan.patient_id, HU_CURE)
        except DataError as error:
            return error
    sizes = [size for result in results for size in result.sizes]
    coarse = [level for result in results for level in result.coarse]
    lungs = _lungs(plan, sizes, coarse)
    images, annotations = [], []
    for (_, item), size, lung in zip(plan.slices(), sizes, lungs, strict=True):
        if size is None:
            continue
        images.append(_image_entry(plan, item, folder, size, lung))
        annotations.append(item.annotations)
    if not images:
        return errors[0]
    return {
        "patient": {
            "patient_id": plan.patient_id,
            "status": "converted",
            "reason": None,
            "slices": len(images),
            "positive_slices": sum(1 for image in images if image["pe_present"]),
            "annotations": sum(len(items) for items in annotations),
            "mean_hu_in_masks": round(statistics.mean, 1) if statistics.pixels else None,
            "notes": plan.notes,
            "warnings": plan.warnings,
            "problems": plan.problems + [str(error) for error in errors],
        },
        "has_pe": plan.has_pe,
        "exams": [study.exam for study in plan.studies if study.exam is not None],
        "images": images,
        "annotations": annotations,
    }


def _image_entry(
    plan: PatientPlan,
    item: SlicePlan,
    folder: str,
    size: tuple[int, int],
    lung: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "file_name": f"images/{folder}/{item.file_name}",
        "width": size[1],
        "height": size[0],
        "patient_id": plan.patient_id,
        **item.image,
        **lung,
    }


def _lungs(
    plan: PatientPlan,
    sizes: Sequence[tuple[int, int] | None],
    coarse: Sequence[np.ndarray | None],
) -> list[dict[str, Any]]:
    """``lung_box`` of the study and ``lung_share`` of the slice, for every slice.

    Both are None if no lungs are found or the slices of the study differ in size.
    """
    found: list[dict[str, Any]] = []
    for study in plan.studies:
        part = slice(len(found), len(found) + len(study.slices))
        shapes = {size for size in sizes[part] if size is not None}
        places = [k for k, level in enumerate(coarse[part]) if level is not None]
        levels = [level for level in coarse[part] if level is not None]
        lungs = None
        if len(shapes) == 1 and levels:
            stack, shape = np.stack(levels), shapes.pop()
            lungs = coarse_lungs(stack, shape, study.spacing_mm, LUNG_MARGIN_MM)
        if lungs is None:
            found += [{"lung_box": None, "lung_share": None}] * len(study.slices)
            continue
        box, shares = lungs
        along = share_of_every_slice(shares, places, len(study.slices))
        found += [{"lung_box": list(box), "lung_share": share} for share in along]
    return found


def _shrink(hu: np.ndarray, spacing: Sequence[float | None]) -> np.ndarray:
    row, col, _ = search_grid(hu.shape, spacing)
    return shrink_slice(hu, row, col)


def _check_shape(hu: np.ndarray, item: SlicePlan) -> None:
    for annotation in item.annotations:
        if annotation["segmentation"]:
            expected = tuple(annotation["segmentation"]["size"])
            if hu.shape != expected:
                reason = f"a slice of {hu.shape} pixels with a mask of {expected}"
                cure = "check that the masks belong to this series"
                raise DataError(os.fspath(item.source[0]), reason, cure)
            return


def _as_data_error(error: Exception, where: str) -> DataError:
    if isinstance(error, DataError):
        return error
    reason = f"{type(error).__name__}: {error}"
    return DataError(where, reason, "check that the file opens in other programs")


def _one_thread() -> None:
    """The workers share the machine, so none may start several threads."""
    cv2.setNumThreads(1)
