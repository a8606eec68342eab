"""Images of lesions for any viewer: secondary captures with outline and box drawn in."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import highdicom as hd
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from pe_unified.ct.opening import open_study
from pe_unified.ct.study import CTStudy
from pe_unified.ct.windows import window_to_uint8
from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.evaluation.verdict import score_text
from pe_unified.reports.file_names import FINDINGS, MASK
from pe_unified.reports.mask_file import read_mask
from pe_unified.reports.page import WINDOW
from pe_unified.reports.report import is_listed, series_name
from pe_unified.reports.structured_report import MAKER

#: Minimum length of an image's longer side, pixels; height of the text line below it.
_SIDE, _LINE = 512, 28
#: Red, green, blue values of outlines, boxes and text.
_OUTLINE, _BOX, _TEXT = (245, 160, 0), (86, 180, 233), (255, 255, 255)


def write_key_images(folder: Path, images: Path, report: Mapping[str, Any], most: int) -> None:
    """Write an image of the key slice of each listed lesion, as one series.

    Args:
        folder: created anew, next to ``mask.nii.gz`` and ``findings.sr.dcm``. The images take
            patient and study from the SR; without an SR no images are made.
        images: the study that the report describes.
        report: the content of ``report.json``.
        most: maximum number of images; the first lesions are taken.
    """
    shutil.rmtree(folder, ignore_errors=True)
    lesions = [lesion for lesion in report["lesions"] if is_listed(lesion)][:most]
    findings, study_uid = folder.parent / FINDINGS, report["input"]["study_uid"]
    if not lesions or not findings.exists():
        return
    filed = dcmread(findings)
    series, mask_file = hd.UID(), folder.parent / MASK
    folder.mkdir()
    with open_study(images, series_name(report), study_uid=study_uid) as study:
        mask = read_mask(mask_file, report) if mask_file.exists() else None
        for place, lesion in enumerate(lesions, 1):
            index = lesion["key_slice"]
            number = min(lesion["number"], 255)  # the largest number in the mask
            inside = None if mask is None else mask[index] == number
            picture = draw(study.slice_hu(index), inside, lesion)
            capture = _capture(filed, study, index, picture, series, place)
            capture.save_as(folder / f"{place:03}.dcm")


def draw(hu: np.ndarray, inside: np.ndarray | None, lesion: Mapping[str, Any]) -> np.ndarray:
    """Draw a lesion on a slice.

    Args:
        hu: (rows, cols), Hounsfield units.
        inside: bool (rows, cols), the lesion's pixels; None if it has only a box.
        lesion: as in the report.

    Returns:
        uint8 (height, width, 3), red, green, blue.
    """
    grey = window_to_uint8(hu, WINDOW)
    factor = max(1, -(-_SIDE // max(grey.shape)))
    picture = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    left, top, right, bottom = (round(edge * factor) for edge in lesion["box"])
    cv2.rectangle(picture, (left - 3, top - 3), (right + 2, bottom + 2), _BOX, 1)
    if inside is not None:
        large = inside.astype(np.uint8).repeat(factor, 0).repeat(factor, 1)
        contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, _OUTLINE, 1)
    said = f"lesion {lesion['number']}, score {score_text(lesion['score'])}. {RESEARCH_LINE}"
    line = np.zeros((_LINE, picture.shape[1], 3), np.uint8)
    cv2.putText(line, said, (6, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _TEXT, 1, cv2.LINE_AA)
    return np.concatenate([picture, line])


def _capture(
    filed: Dataset, study: CTStudy, index: int, picture: np.ndarray, series: str, number: int
) -> hd.sc.SCImage:
    to_left = "L" if study.columns_to_left > 0 else "R"
    to_back = "P" if study.direction[1, 1] >= 0 else "A"
    capture = hd.sc.SCImage.from_ref_dataset(
        filed,
        picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=series,
        series_number=9103,
        sop_instance_uid=hd.UID(),
        instance_number=number,
        manufacturer=MAKER,
        patient_orientation=(to_left, to_back),
        series_description="pe_unified: key images (research)",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )
    source = Dataset()
    source.ReferencedSOPClassUID = dcmread(
        study.files[index], stop_before_pixels=True, specific_tags=["SOPClassUID"]
    ).SOPClassUID
    source.ReferencedSOPInstanceUID = study.sop_uids[index]
    if study.frames and study.frames[index] is not None:
        source.ReferencedFrameNumber = study.frames[index]
    capture.SourceImageSequence = [source]
    capture.BodyPartExamined = "CHEST"
    capture.BurnedInAnnotation = "NO"  # nothing burned in identifies the patient
    return capture
