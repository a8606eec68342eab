"""The findings as DICOM: a segmentation (SEG) and a structured report (SR, TID 1500).

Both refer to the instances of the CT, or to its frames if an instance holds many. They carry the
patient and study of the CT, or pseudonyms of these, so that an archive files them with it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DA, TM, PersonName

from pe_unified.ct.dicom_file import open_dicom
from pe_unified.ct.study import CTStudy
from pe_unified.inference.lesions import Lesion
from pe_unified.memory import sparse_zeros
from pe_unified.reports.file_names import FINDINGS, SEGMENTATION
from pe_unified.reports.frame_references import refer_to_frames, stand_in
from pe_unified.reports.structured_report import MAKER, Correction, structured_report
from pe_unified.version import __version__

#: Required attributes of patient and study that are copied from the source.
_REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("AccessionNumber", "StudyID", "ReferringPhysicianName"),
)
#: Attributes that are copied only if the source has them.
_HANDED_ON = (
    *("IssuerOfPatientID", "OtherPatientIDs", "PatientAge", "PatientSize", "PatientWeight"),
    *("StudyDescription", "PatientIdentityRemoved", "DeidentificationMethod"),
)
#: Endings of keywords, and what has to be able to read their values.
_PARSED: dict[str, Callable[[Any], Any]] = {"Date": DA, "Time": TM, "Size": float, "Weight": float}
#: Attributes that are read per slice; whole headers would take too much memory.
_READ = ("SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID")
#: Maximum number of segments in one SEG; more lesions than that are noise.
MOST_SEGMENTS = 200
_BY_HAND = hd.seg.SegmentAlgorithmTypeValues.MANUAL

#: Maps a UID or a PatientID to its pseudonym.
Renamed = Callable[[str], str]


def write_dicom(
    folder: Path,
    report: Mapping[str, Any],
    study: CTStudy,
    lesions: Sequence[Lesion],
    renamed: Renamed | None = None,
    correction: Correction | None = None,
) -> None:
    """Write ``findings.sr.dcm``, and ``mask.seg.dcm`` if a lesion has a mask.

    Args:
        folder: output folder.
        report: the content of ``report.json``.
        study: a DICOM series.
        lesions: the findings among the lesions of the report, with their pixels.
        renamed: gives the pseudonyms; None keeps patient and study.
        correction: the reader whose findings these are; None for the model's.
    """
    kept = list(lesions[:MOST_SEGMENTS])
    masked = [lesion for lesion in kept if lesion.pixels]
    shown = {index for lesion in kept for index in (lesion.key_slice, *lesion.pixels)}
    indices = sorted(shown or {len(study) // 2})
    headers = {path: _header(path) for path in {study.files[index] for index in indices}}
    shared = _shared(study, list(headers.values()), renamed)
    sources = {
        index: _source(study, index, headers[study.files[index]], shared, renamed or str)
        for index in indices
    }
    frames = stand_in(study, sources)
    segmentation = _segmentation(study, masked, sources, correction) if masked else None
    structured = structured_report(report, kept, segmentation, sources, correction)
    if segmentation is not None:
        refer_to_frames(segmentation, frames)
        segmentation.save_as(folder / SEGMENTATION)
    refer_to_frames(structured, frames)
    structured.save_as(folder / FINDINGS)


def _header(path: Path) -> Dataset:
    tags = [Tag(keyword) for keyword in (*_READ, *_REQUIRED, *_HANDED_ON)]
    header = open_dicom(path, stop_before_pixels=True, specific_tags=tags)
    header.decode()
    return header


def _agreed(headers: Sequence[Dataset], keyword: str) -> Any:
    """The most frequent value among the headers that have one; None if none has."""
    values = [header.get(keyword) for header in headers]
    stated = {str(value): value for value in values if value not in (None, "")}
    counts = Counter(str(value) for value in values if value not in (None, ""))
    return stated[counts.most_common(1)[0][0]] if counts else None


def _patient_and_study(
    study: CTStudy, headers: Sequence[Dataset], renamed: Renamed | None
) -> dict[str, Any]:
    """Patient and study modules, with the most frequent value of each attribute, in UTF-8."""
    if renamed is not None:
        pseudonym = renamed(study.patient_id) if study.patient_id else ""
        return {
            **dict.fromkeys(_REQUIRED, ""),
            "PatientID": pseudonym,
            "PatientName": f"{pseudonym}^" if pseudonym else "",
            "PatientIdentityRemoved": "YES",
            "DeidentificationMethod": "pseudonyms, all else left out",
        }
    found: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        **dict.fromkeys(_REQUIRED, ""),
    }
    for keyword in (*_REQUIRED, *_HANDED_ON):
        value = _agreed(headers, keyword)
        if value is not None:
            found[keyword] = _valid(keyword, value)
    return found


def _valid(keyword: str, value: Any) -> Any:
    """A value of a header, or an empty one if the standard does not allow it."""
    if keyword == "PatientSex":
        return value if value in ("M", "F", "O") else ""
    parsed = next((kind for end, kind in _PARSED.items() if keyword.endswith(end)), None)
    if parsed is not None:
        try:
            parsed(value)
        except (TypeError, ValueError):  # several values, or none of this kind
            return ""
    return str(value) if isinstance(value, PersonName) else value


def _shared(
    study: CTStudy, headers: Sequence[Dataset], pseudonyms: Renamed | None
) -> dict[str, Any]:
    """Attributes common to all slices; headers may contradict each other or lack them."""
    renamed = pseudonyms or str
    row, col, step = study.known_spacing()
    frame = str(_agreed(headers, "FrameOfReferenceUID") or hd.UID())
    return {
        **_patient_and_study(study, headers, pseudonyms),
        "StudyInstanceUID": renamed(study.study_uid),
        "SeriesInstanceUID": renamed(study.series_uid),
        "FrameOfReferenceUID": renamed(frame),
        "Modality": "CT",
        "Rows": study.shape[1],
        "Columns": study.shape[2],
        "ImageOrientationPatient": [*study.direction[:, 0], *study.direction[:, 1]],
        "PixelSpacing": [row, col],
        "SliceThickness": study.thickness_mm or step,
    }


def _source(
    study: CTStudy, index: int, header: Dataset, shared: Mapping[str, Any], renamed: Renamed
) -> Dataset:
    """The attributes of a slice that others refer to, without pixels."""
    source = Dataset()
    for keyword, value in shared.items():
        setattr(source, keyword, value)
    source.SOPClassUID = header.get("SOPClassUID") or CTImageStorage
    source.SOPInstanceUID = renamed(str(header.SOPInstanceUID))
    source.ImagePositionPatient = list(study.position_mm(index, 0, 0))
    return source


def _segmentation(
    study: CTStudy,
    lesions: Sequence[Lesion],
    sources: Mapping[int, Dataset],
    correction: Correction | None,
) -> hd.seg.Segmentation:
    """One segment per lesion, in their order; only slices with a lesion get frames."""
    indices = sorted({index for lesion in lesions for index in lesion.pixels})
    frames = sparse_zeros((len(indices), *study.shape[1:]))
    for segment, lesion in enumerate(lesions, start=1):
        for index, pixels in lesion.pixels.items():
            frames[indices.index(index)].ravel()[pixels] = segment
    algorithm = hd.AlgorithmIdentificationSequence(
        name=MAKER, version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    described = [
        hd.seg.SegmentDescription(
            segment_number=segment,
            segment_label=f"Lesion {lesion.number}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Embolus,
            algorithm_type=(kind := _algorithm_type(lesion, correction)),
            algorithm_identification=None if kind == _BY_HAND else algorithm,
            tracking_uid=hd.UID(),
            tracking_id=f"lesion {lesion.number}",
            anatomic_regions=[codes.SCT.PulmonaryArtery],
        )
        for segment, lesion in enumerate(lesions, start=1)
    ]
    return hd.seg.Segmentation(
        source_images=[sources[index] for index in indices],
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=9101,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        series_description="pe_unified: emboli (research)",
        **_equipment(),
    )


def _algorithm_type(
    lesion: Lesion, correction: Correction | None
) -> hd.seg.SegmentAlgorithmTypeValues:
    """Who drew a lesion: the model, a reader correcting the model, or a reader alone."""
    if correction is not None and lesion.number in correction.added:
        return _BY_HAND
    if correction is not None and lesion.number in correction.redrawn:
        return hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC
    return hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC


def _equipment() -> dict[str, Any]:
    return {
        "manufacturer": MAKER,
        "manufacturer_model_name": MAKER,
        "software_versions": __version__,
        "device_serial_number": "0",
    }
