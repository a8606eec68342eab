"""The findings as a DICOM structured report (SR, TID 1500)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pe_unified.inference.lesions import Lesion
from pe_unified.reports.exam_block import WORDS, disagreement, exam_call_in_words
from pe_unified.reports.report import verdict_in_words
from pe_unified.version import __version__

#: Manufacturer of the DICOM objects.
MAKER = "pe_unified"
_SCHEME = "99PEUNIFIED"
_MILLILITRE = Code("ml", "UCUM", "milliliter")
#: Labels of an exam by their codes, which have at most 16 characters.
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


@dataclass(frozen=True)
class Correction:
    """A reader's correction of a model's findings.

    Attributes:
        reader: name of the reader.
        verdict: on the exam: ``"positive"``, ``"negative"`` or ``"indeterminate"``.
        words: the decision in one line.
        redrawn, added: numbers of the lesions that the reader drew.
    """

    reader: str
    verdict: str
    words: str
    redrawn: frozenset[int] = frozenset()
    added: frozenset[int] = frozenset()

    @property
    def person(self) -> str:
        """The reader as a DICOM name: at most 64 characters, without those that separate parts."""
        return re.sub(r"[\\^=\s]+", " ", self.reader).strip()[:62] + "^"


def structured_report(
    report: Mapping[str, Any],
    lesions: Sequence[Lesion],
    segmentation: hd.seg.Segmentation | None,
    sources: Mapping[int, Dataset],
    correction: Correction | None = None,
) -> hd.sr.Comprehensive3DSR:
    """The report, with references to its sources and to the segments of its lesions.

    Args:
        report: the content of ``report.json``.
        lesions: the findings to include.
        segmentation: of the lesions that have a mask, in their order.
        sources: the instances to refer to, by slice.
        correction: the reader whose findings these are; None for the model's.
    """
    device = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID.from_uuid(str(UUID(report["model"]["sha256"][:32]))),
            name=f"{MAKER} {__version__}",
            manufacturer_name=MAKER,
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
            "measurements": _measurements(words) or None,
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
    groups += _exam_group(report, correction)
    if report["exam_model"] is not None and report["exam_model"]["reason"] is None:
        groups.append(_exam_model_group(report))
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_person_context=_person(correction), observer_device_context=device
        ),
        procedure_reported=Code("24627-2", "LN", "CT Chest"),
        imaging_measurements=groups or None,
        title=codes.DCM.ImagingMeasurementReport,
        # All sources are evidence; listing every image in the content would repeat them many times.
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
        manufacturer=MAKER,
        is_complete=True,
        is_verified=False,
        series_description="pe_unified: findings (research)",
    )


def _person(correction: Correction | None) -> hd.sr.ObserverContext | None:
    if correction is None:
        return None
    return hd.sr.ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(
            name=correction.person
        ),
    )


def _tracking(segmentation: hd.seg.Segmentation | None) -> dict[int, tuple[str, str]]:
    """Tracking UID and name of every segment, repeated in the report."""
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
    found = (
        []
        if words["score"] is None
        else [
            hd.sr.Measurement(
                name=Code("score", _SCHEME, "Score of the finding, not calibrated"),
                value=words["score"],
                unit=codes.UCUM.NoUnits,
            )
        ]
    )
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
    report: Mapping[str, Any], correction: Correction | None
) -> list[hd.sr.MeasurementsAndQualitativeEvaluations]:
    """The verdict, the scores and the reasons not to rely on them, as codes; what no code
    expresses is a full sentence."""
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
    if correction is not None:
        read = Code("verdict-reader", _SCHEME, "Verdict on the exam, by a reader")
        coded.append((read, correction.verdict))
        said.append((read, correction.words))
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
    """The exam model's answer, separate from the verdict, and its training data."""
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
    """Add full sentences to a group."""
    contains = hd.sr.RelationshipTypeValues.CONTAINS
    group[0].ContentSequence.extend(
        hd.sr.TextContentItem(name, words, contains) for name, words in said
    )
