"""Corrected studies as input of a converter: images from the studies, labels from the readers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.converters.contract.schema import exam_entry
from pe_unified.converters.contract.slice_places import SlicePlace
from pe_unified.converters.pipeline.plan import PatientPlan, PatientSource, StudyPlan
from pe_unified.converters.pipeline.raw_folders import painted_folders
from pe_unified.converters.raw.masked_study import MaskedSlice, plan_masked_study
from pe_unified.ct.opening import open_study
from pe_unified.errors import DataError
from pe_unified.reports.fingerprint import fingerprint
from pe_unified.review.slice_labels import SliceLabels
from pe_unified.review.sources import Source


@dataclass(frozen=True)
class LabelledStudy:
    """A study with all decisions made.

    Attributes:
        name: its UID as in the report, else the name of its report.
        patient: the patient's ID, or a pseudonym.
        source: location of its images.
        slices: labels of each slice.
        exam: labels of the exam.
    """

    name: str
    patient: str
    source: Source
    slices: tuple[SliceLabels, ...]
    exam: dict[str, int | None]


@dataclass(frozen=True)
class ReviewedReader:
    """Reads a patient: the studies, and the labels that follow from decisions."""

    whole_patients: bool = True

    def plan(self, source: PatientSource, scratch: Path) -> PatientPlan:
        studies: list[StudyPlan] = []
        for number, labelled in enumerate(source.place):
            plan = self._plan_study(source.patient_id, labelled, scratch / f"{number}.npy")
            for item in plan.studies[0].slices if number else ():
                item.file_name = f"{number}-{item.file_name}"
            studies += plan.studies
        present = [label.present for each in source.place for label in each.slices]
        has_pe = True if 1 in present else None if None in present else False
        return PatientPlan(source.patient_id, studies, has_pe=has_pe)

    def _plan_study(self, patient: str, labelled: LabelledStudy, copy: Path) -> PatientPlan:
        asked = labelled.source
        renamed: Callable[[str], str] = asked.renamed or str
        with open_study(asked.path, asked.series, study_uid=asked.study_uid) as study:
            if len(study) != len(labelled.slices):
                reason = f"{len(study)} slices, the report has {len(labelled.slices)}"
                raise DataError(asked.path, reason, "analyse the study again")
            stored = np.lib.format.open_memmap(copy, "w+", np.int16, study.shape)
            slices = []
            for index, labels in enumerate(labelled.slices):
                stored[index] = study.slice_hu(index)
                place = np.array(study.position_mm(index, 0, 0))
                sop_uid = study.sop_uids[index] if study.sop_uids else ""
                slices.append(
                    MaskedSlice(
                        source=(copy, index),
                        annotations=list(labels.annotations),
                        file_index=index,
                        z_mm=study.z_mm[index],
                        series_uid=renamed(study.series_uid) if study.series_uid else None,
                        sop_uid=renamed(sop_uid) if sop_uid else None,
                        place=SlicePlace.of(place, study.direction) if study.placed else None,
                    )
                )
            stored.flush()
            spacing = study.spacing_mm
        plan = plan_masked_study(patient, labelled.name, slices, spacing, notes=(), check_hu=False)
        for item, labels in zip(plan.studies[0].slices, labelled.slices, strict=True):
            item.image |= {"pe_present": labels.present, "labels_known": list(labels.known)}
        plan.studies[0].exam = exam_entry(labelled.name, patient, labelled.exam)
        return plan

    def read_slice(self, source: tuple[Any, ...]) -> np.ndarray:
        copy, index = source
        return np.array(np.load(copy, mmap_mode="r")[index])


class ReviewedSet:
    """The finished studies, by patient.

    Args:
        raw: the folder of the reports.
        studies: the corrected ones.
        roots: folders of their images; synthetic studies are recognised by their manifest.
    """

    name = "review"

    def __init__(self, raw: Path, studies: Sequence[LabelledStudy], roots: Sequence[Path]) -> None:
        self.raw, self.reader = raw, ReviewedReader()
        places = [place for root in roots for place in (root, root.parent, root.parent.parent)]
        self._painted = [
            each.resolve() for place in places if place.is_dir() for each in painted_folders(place)
        ]
        self._studies: dict[str, list[LabelledStudy]] = {}
        for each in studies:
            self._studies.setdefault(each.patient, []).append(each)

    def __len__(self) -> int:
        return len(self._studies)

    def patients(self) -> Iterator[PatientSource]:
        for patient, studies in self._studies.items():
            paths = [each.source.path.resolve() for each in studies]
            asked = f"{studies}{[fingerprint(path) for path in paths]}"
            digest = blake2b(asked.encode(errors="surrogateescape"), digest_size=16)
            painted = any(path.is_relative_to(each) for path in paths for each in self._painted)
            yield PatientSource(
                patient, tuple(studies), digest.hexdigest(), slices=paths[0], painted=painted
            )

    def info(self) -> dict[str, str]:
        return {
            "description": "studies whose findings by a model were corrected by readers",
            "source": "reports of pe_unified and decisions of readers",
            "licence": "own",
        }

    def options(self) -> dict[str, Any]:
        return {"hu_check": False}

    def problems(self) -> list[str]:
        return []
