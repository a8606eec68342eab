"""Synthetic studies in the layout of RSNA-STR PE (RSPECT): DICOM by UID, and train.csv.

Optionally the JPEG-256 edition (three windows as channels) and the boxes of Augmented RSPECT.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pe_unified.csv_files import csv_text
from pe_unified.ct.exam_labels import EXAM_LABELS
from pe_unified.ct.windows import window_to_uint8
from pe_unified.files import appearing_folder, write_text
from pe_unified.phantom.layouts.dicom_slices import phantom_uid, write_series
from pe_unified.phantom.study import PhantomStudy

TRAIN_COLUMNS = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "pe_present_on_image",
    *EXAM_LABELS,
)
BOX_COLUMNS = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "Artery",
    "x",
    "y",
    "width",
    "height",
)
#: Default share of studies with emboli.
POSITIVE_RATE = 0.32
#: Windows of the JPEG edition's channels, red first.
_JPEG_WINDOWS = ("lung", "pe", "mediastinal")


def _boxes(study: PhantomStudy, uids: Sequence[str]) -> list[list[Any]]:
    """One row per 2D component of an embolus: SOP UID, artery, x, y, width, height."""
    rows: list[list[Any]] = []
    for embolus in study.findings:
        side = "bilateral" if embolus.left and embolus.right else ""
        side = side or ("left" if embolus.left else "right" if embolus.right else "pulmonary")
        artery = f"{side} {embolus.level} artery".capitalize()
        for k in np.flatnonzero((study.emboli == embolus.number).any((1, 2))):
            mask = (study.emboli[k] == embolus.number).astype(np.uint8)
            count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
            for x, y, width, height, _ in stats[1:count]:
                rows.append([uids[int(k)], artery, int(x), int(y), int(width), int(height)])
    return rows


def _write_jpegs(folder: Path, study: PhantomStudy, uids: Sequence[str]) -> None:
    for k, plane in enumerate(study.hu):
        picture = np.stack([window_to_uint8(plane, name) for name in _JPEG_WINDOWS[::-1]], -1)
        if picture.shape[:2] != (256, 256):
            picture = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA)
        path = folder / f"{k + 1:03d}_{uids[k]}.jpg"
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
        if not done:
            raise ValueError(f"JPEG encoding failed for {path}")
        path.write_bytes(data.tobytes())


def write_study(
    out: Path,
    number: int,
    study: PhantomStudy,
    *,
    transfer_syntax: str = "explicit",
    jpeg: bool = False,
    boxes: bool = False,
) -> dict[str, Any]:
    """Write ``train/<Study>/<Series>/<SOP>.dcm`` of one study; returns its csv rows."""
    patient = f"PHANTOM-{number:04d}"
    study_uid = phantom_uid(study.plan.seed, patient, "study")
    series_uid = phantom_uid(study.plan.seed, patient, "series")
    folder = out / "train" / study_uid
    with appearing_folder(folder) as partial:
        (partial / series_uid).mkdir()
        uids = write_series(
            partial / series_uid,
            study,
            None,
            patient=patient,
            person=f"PHANTOM^{number:04d}",
            transfer_syntax=transfer_syntax,
        )
        if jpeg:
            with appearing_folder(out / "train-jpegs" / study_uid) as pictures:
                (pictures / series_uid).mkdir()
                _write_jpegs(pictures / series_uid, study, uids)
    present = np.asarray((study.emboli > 0).any((1, 2)))
    record: dict[str, Any] = {
        "patient_id": patient,
        "study_uid": study_uid,
        "series_uid": series_uid,
        "sop_uids": uids,
        "pe_present_on_image": [int(p) for p in present],
    }
    if boxes:
        record["boxes"] = _boxes(study, uids)
    return record


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    return csv_text(columns, (dict(zip(columns, row, strict=True)) for row in rows))


def finish(out: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write ``train.csv``, and ``augmented_rspect.csv`` if boxes were requested."""
    rows, boxes = [], []
    for record in records:
        ids = [record["study_uid"], record["series_uid"]]
        exam = [record["labels"][name] for name in EXAM_LABELS]
        for sop, present in zip(record["sop_uids"], record["pe_present_on_image"]):
            rows.append([*ids, sop, present, *exam])
        boxes += [[*ids, *box] for box in record.get("boxes", [])]
    write_text(out / "train.csv", _csv(TRAIN_COLUMNS, rows))
    if any("boxes" in record for record in records):
        write_text(out / "augmented_rspect.csv", _csv(BOX_COLUMNS, boxes))
