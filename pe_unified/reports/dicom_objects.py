"""The findings as DICOM: a segmentation (SEG) and a structured report (SR, TID 1500).

Both refer to the instances of the CT, by frames where one holds many, and carry its patient and
study, by which an archive files them beside it; or pseudonyms of these.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DA, TM, PersonName

from pe_unified.ct.dicom_file import open_dicom
from pe_unified.ct.study import CTStudy
from pe_unified.inference.lesions import Lesion
from pe_unified.memory import sparse_zeros
from pe_unified.reports.exam_block import WORDS, disagreement, exam_call_in_words
from pe_unified.reports.frame_references import refer_to_frames, stand_in
from pe_unified.reports.report import verdict_in_words
from pe_unified.version import __version__

_MAKER = "pe_unified"
_SCHEME = "99PEUNIFIED"
#: The files written here.
SEGMENTATION, FINDINGS = "mask.seg.dcm", "findings.sr.dcm"
#: What a source hands on of its patient and study, where archives look; and it has to be there.
_REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("AccessionNumber", "StudyID", "ReferringPhysicianName"),
)
#: Likewise, where it is there.
_HANDED_ON = (
    *("IssuerOfPatientID", "OtherPatientIDs", "PatientAge", "PatientSize", "PatientWeight"),
    *("StudyDescription", "PatientIdentityRemoved", "DeidentificationMethod"),
)
#: What is read of a source instance; all of its header for each slice would be much.
_READ = ("SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID")
_MILLILITRE = Code("ml", "UCUM", "milliliter")
#: Segments of one SEG at most; a table of more lesions is noise.
MOST_SEGMENTS = 200

#: Labels of an exam by the codes that stand for them, of at most 16 letters.
_LABELS = {
    "positive_exam_for_pe": "pe-positive",
    "negative_exam_for_pe": "pe-negative",
    "indeterminate": "pe-indeterminate",
    "chronic_pe": "pe-chronic",
    "acute_and_chronic_pe": "pe-acute-chronic",
    "central_pe": "pe-central",
    "leftsided_pe": "pe-left",
    "rightsided_pe": "pe-right",
    "rv_lv_ratio_gte_1": "rv-lv-from-1",
    "rv_lv_ratio_lt_1": "rv-lv-below-1",
}

#: Gives the pseudonym that stands for a UID or a PatientID.
Renamed = Callable[[str], str]


def write_dicom(
    folder: Path,
    report: Mapping[str, Any],
    study: CTStudy,
    lesions: Sequence[Lesion],
    renamed: Renamed | None = None,
) -> None:
    """Write ``findings.sr.dcm``, and ``mask.seg.dcm`` where a lesion has a mask.

    Args:
        folder: to write into.
        report: what ``report.json`` holds.
        study: a DICOM series.
        lesions: the findings among those of the report, with their pixels.
        renamed: of a study that is pseudonymised; patient and study stay as they are without.
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
    segmentation = _segmentation(study, masked, sources) if masked else None
    structured = _structured_report(report, kept, segmentation, sources)
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
    """The value that most headers have, of those that have one; None where none has."""
    values = [header.get(keyword) for header in headers]
    stated = {str(value): value for value in values if value not in (None, "")}
    counts = Counter(str(value) for value in values if value not in (None, ""))
    return stated[counts.most_common(1)[0][0]] if counts else None


def _patient_and_study(
    study: CTStudy, headers: Sequence[Dataset], renamed: Renamed | None
) -> dict[str, Any]:
    """The patient and study modules of a series, as most slices have them, in UTF-8."""
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
    """A value of a header, empty where it is none that the standard allows."""
    if keyword == "PatientSex":
        return value if value in ("M", "F", "O") else ""
    if keyword.endswith(("Date", "Time")):
        try:
            (DA if keyword.endswith("Date") else TM)(value)
        except ValueError:
            return ""
    return str(value) if isinstance(value, PersonName) else value


def _shared(
    study: CTStudy, headers: Sequence[Dataset], pseudonyms: Renamed | None
) -> dict[str, Any]:
    """What all slices of a series share; headers may contradict each other, or lack it."""
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
    """What of a slice is handed on: no pixels."""
    source = Dataset()
    for keyword, value in shared.items():
        setattr(source, keyword, value)
    source.SOPClassUID = header.get("SOPClassUID") or CTImageStorage
    source.SOPInstanceUID = renamed(str(header.SOPInstanceUID))
    source.ImagePositionPatient = list(study.position_mm(index, 0, 0))
    return source


def _segmentation(
    study: CTStudy, lesions: Sequence[Lesion], sources: Mapping[int, Dataset]
) -> hd.seg.Segmentation:
    """One segment per lesion, numbered in their order; frames only where there is a lesion."""
    indices = sorted({index for lesion in lesions for index in lesion.pixels})
    frames = sparse_zeros((len(indices), *study.shape[1:]))
    for segment, lesion in enumerate(lesions, start=1):
        for index, pixels in lesion.pixels.items():
            frames[indices.index(index)].ravel()[pixels] = segment
    algorithm = hd.AlgorithmIdentificationSequence(
        name=_MAKER, version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    described = [
        hd.seg.SegmentDescription(
            segment_number=segment,
            segment_label=f"Lesion {lesion.number}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Embolus,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
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


def _equipment() -> dict[str, Any]:
    return {
        "manufacturer": _MAKER,
        "manufacturer_model_name": _MAKER,
        "software_versions": __version__,
        "device_serial_number": "0",
    }


def _structured_report(
    report: Mapping[str, Any],
    lesions: Sequence[Lesion],
    segmentation: hd.seg.Segmentation | None,
    sources: Mapping[int, Dataset],
) -> hd.sr.Comprehensive3DSR:
    device = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID.from_uuid(str(UUID(report["model"]["sha256"][:32]))),
            name=f"{_MAKER} {__version__}",
            manufacturer_name=_MAKER,
        ),
    )
    tracked = _tracking(segmentation)
    groups: list[Any] = []
    segment = 0
    for lesion in lesions:
        words = report["lesions"][lesion.number - 1]
        shared = {
            "finding_type": codes.SCT.PulmonaryEmbolism,
            "finding_sites": [_site(lesion)],
            "measurements": _measurements(words),
        }
        if lesion.pixels and segmentation is not None:
            segment += 1
            groups.append(
                hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                    tracking_identifier=hd.sr.TrackingIdentifier(*tracked[segment]),
                    referenced_segment=hd.sr.ReferencedSegment(
                        sop_class_uid=segmentation.SOPClassUID,
                        sop_instance_uid=segmentation.SOPInstanceUID,
                        segment_number=segment,
                        source_series=hd.sr.SourceSeriesForSegmentation(
                            sources[lesion.key_slice].SeriesInstanceUID
                        ),
                    ),
                    **shared,
                )
            )
        else:
            groups.append(
                hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                    tracking_identifier=hd.sr.TrackingIdentifier(
                        hd.UID(), f"lesion {lesion.number}"
                    ),
                    referenced_region=_region(lesion, sources[lesion.key_slice]),
                    **shared,
                )
            )
    groups += _exam_group(report)
    if report["exam_model"] is not None and report["exam_model"]["reason"] is None:
        groups.append(_exam_model_group(report))
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=Code("24627-2", "LN", "CT Chest"),
        imaging_measurements=groups or None,
        title=codes.DCM.ImagingMeasurementReport,
        # All sources are evidence; in the content every image would be a dozen items.
        referenced_images=[sources[index] for index in sorted({each.key_slice for each in lesions})]
        or list(sources.values()),
    )
    evidence = [*sources.values(), *([segmentation] if segmentation is not None else [])]
    return hd.sr.Comprehensive3DSR(
        evidence=evidence,
        content=content[0],
        series_instance_uid=hd.UID(),
        series_number=9102,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=_MAKER,
        is_complete=True,
        is_verified=False,
        series_description="pe_unified: findings (research)",
    )


def _tracking(segmentation: hd.seg.Segmentation | None) -> dict[int, tuple[str, str]]:
    """Tracking UID and name of every segment, which the report repeats."""
    if segmentation is None:
        return {}
    return {
        int(item.SegmentNumber): (str(item.TrackingUID), str(item.TrackingID))
        for item in segmentation.SegmentSequence
    }


def _site(lesion: Lesion) -> hd.sr.FindingSite:
    sides = {"right": codes.SCT.Right, "left": codes.SCT.Left}
    return hd.sr.FindingSite(
        anatomic_location=codes.SCT.PulmonaryArtery, laterality=sides.get(lesion.side)
    )


def _region(lesion: Lesion, source: Dataset) -> hd.sr.ImageRegion:
    x1, y1, x2, y2 = lesion.box
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]])
    return hd.sr.ImageRegion(
        graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
        graphic_data=corners,
        source_image=hd.sr.SourceImageForRegion(source.SOPClassUID, source.SOPInstanceUID),
    )


def _measurements(words: Mapping[str, Any]) -> list[hd.sr.Measurement]:
    found = [
        hd.sr.Measurement(
            name=Code("score", _SCHEME, "Score of the finding, not calibrated"),
            value=words["score"],
            unit=codes.UCUM.NoUnits,
        )
    ]
    if words["volume_ml"] is not None:
        found += [
            hd.sr.Measurement(codes.SCT.Volume, words["volume_ml"], _MILLILITRE),
            hd.sr.Measurement(
                codes.IBSI.Maximum3DDiameterOfAMesh,
                words["largest_diameter_mm"],
                codes.UCUM.Millimeter,
            ),
            hd.sr.Measurement(
                codes.DCM.MeanAttenuationCoefficient, words["mean_hu"], codes.UCUM.HounsfieldUnit
            ),
        ]
    return found


def _exam_group(
    report: Mapping[str, Any],
) -> list[hd.sr.MeasurementsAndQualitativeEvaluations]:
    """The verdict, the scores, and why not to rely on them: as codes, and in whole sentences, for
    which a code has no room."""
    exam = report["exam"]
    verdict = Code("verdict", _SCHEME, "Verdict on the exam, by research software")
    quality = Code("quality", _SCHEME, "Reason not to rely on the scores")
    training = Code("training", _SCHEME, "What the model was trained on")
    word = {True: "positive", False: "negative", None: "undecided"}[exam["positive"]]
    coded, said = [(verdict, word)], [(verdict, verdict_in_words(report))]
    for flag in report["quality"]["flags"]:
        if flag["abstain"]:
            coded.append((quality, flag["name"]))
            said.append((quality, flag["reason"]))
    if report["model"]["training_notice"]:
        said.append((training, report["model"]["training_notice"]))
    measurements = [
        hd.sr.Measurement(name=Code(name, _SCHEME, meaning), value=value, unit=codes.UCUM.NoUnits)
        for name, meaning, value in (
            ("exam-score", "Score of the exam, not calibrated", exam["probability"]),
            ("lesion-score", "Highest score of a lesion, not calibrated", exam["lesion_score"]),
        )
        if value is not None
    ]
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), "exam"),
        finding_type=codes.SCT.PulmonaryEmbolism,
        measurements=measurements or None,
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(name, Code(value, _SCHEME, value.replace("_", " ")))
            for name, value in coded
        ],
    )
    _say(group, said)
    return [group]


def _exam_model_group(report: Mapping[str, Any]) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    """What the exam model answers, apart from the verdict, and what it was trained on."""
    block = report["exam_model"]
    said = [(Code("exam-model", _SCHEME, "Answer of the exam model"), exam_call_in_words(block))]
    if disagreement(report):
        said.append((Code("disagreement", _SCHEME, "Answer and verdict"), disagreement(report)))
    if block["model"]["training_notice"]:
        training = Code("exam-training", _SCHEME, "What the exam model was trained on")
        said.append((training, block["model"]["training_notice"]))
    values = {"positive_exam_for_pe": block["probability"], **block["labels"]}
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), "exam model"),
        finding_type=codes.SCT.PulmonaryEmbolism,
        measurements=[
            hd.sr.Measurement(
                Code(code, _SCHEME, f"Probability of the label: {WORDS[name]}"),
                values[name],
                codes.UCUM.NoUnits,
            )
            for name, code in _LABELS.items()
            if values[name] is not None
        ],
    )
    _say(group, said)
    return group


def _say(
    group: hd.sr.MeasurementsAndQualitativeEvaluations, said: Sequence[tuple[Code, str]]
) -> None:
    """Add whole sentences to a group."""
    contains = hd.sr.RelationshipTypeValues.CONTAINS
    group[0].ContentSequence.extend(
        hd.sr.TextContentItem(name, words, contains) for name, words in said
    )
