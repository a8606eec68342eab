"""Writes readers' decisions as files for archives, training and statistics."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pe_unified.converters.pipeline.run import REPORT as CONVERSION_REPORT
from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults
from pe_unified.csv_files import csv_text
from pe_unified.ct.study import CTStudy
from pe_unified.errors import DataError
from pe_unified.files import write_text
from pe_unified.json_files import write_json
from pe_unified.paths import require_apart
from pe_unified.progress import track
from pe_unified.reports.file_names import MASK
from pe_unified.reports.files import output_folder, remove_report, write_dicom_where_possible
from pe_unified.reports.mask_file import write_mask
from pe_unified.review.agreement import write_agreement
from pe_unified.review.corrected import CorrectedStudy, correct
from pe_unified.review.reports import StudyReport, find_reports
from pe_unified.review.reviewed_set import LabelledStudy, ReviewedSet
from pe_unified.review.slice_labels import exam_labels, label_slices
from pe_unified.review.sources import Source, Studies
from pe_unified.review.store import DecisionError, ReviewStore

#: Lists what happened to the lesions of a study; written next to its masks.
CORRECTED = "corrected.json"
#: Folders of the export.
STUDIES, SET = "studies", "set"
_COLUMNS = ("number", "study", "reader", "kind", "lesion", "value", "model", "made")


@dataclass
class Exported:
    """Result of an export.

    Attributes:
        studies: names of the corrected studies.
        left_out: in words, which studies were left out, or which reports cannot be read, and why.
        faults: of the converted set.
    """

    studies: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def export_review(
    reports: Path,
    out: Path,
    studies: Sequence[Path] = (),
    reader: str | None = None,
    key: str | None = None,
    options: RunOptions | None = None,
) -> Exported:
    """Write the readers' decisions.

    ``out`` gets ``decisions.csv`` (the history), ``readers.csv``, ``agreement.csv`` and
    ``agreement.md``. If the images are given, it also gets a folder per finished study in
    ``studies`` (``mask.seg.dcm``, ``findings.sr.dcm``, ``mask.nii.gz``, ``corrected.json``) and
    all of these studies as one converted set in ``set``. What an earlier export wrote for a study
    that is no longer finished is removed.

    Args:
        reports: output folder of ``pe-unified infer`` or ``pe-unified batch``, with decisions.
        out: another folder.
        studies: folders of the images.
        reader: whose decisions; None for the newest of all readers.
        key: of the pseudonyms, if the reports are pseudonymised.
        options: how the set is converted and split.

    Raises:
        DataError: no reports, no such reader, or a folder that cannot be read or written.
    """
    require_apart(out, reports, *studies)
    store = ReviewStore(reports)
    found, damaged = find_reports(reports)
    every = store.history()
    if reader is not None and reader not in {each.reader for each in every}:
        names = ", ".join(sorted({each.reader for each in every})) or "nobody"
        raise DataError(reports, f"there are no decisions by '{reader}'", f"readers here: {names}")
    rows = [asdict(each) | {"value": json.dumps(each.value)} for each in every]
    write_text(out / "decisions.csv", csv_text(_COLUMNS, rows))
    write_agreement(out, store)
    exported = Exported(left_out=[str(fault) for fault in damaged])
    if not studies:
        return exported
    places, labelled, reopened = Studies(studies, key), [], False
    touched = {each.study for each in every}
    for name, report in track([each for each in found.items() if each[0] in touched], "studies"):
        place = out / STUDIES / report.folder.relative_to(store.path)
        try:
            if store.state(name, reader) != "done":
                reopened |= _withdraw(place)
                raise DataError(name, "is not done", "finish reading it")
            labelled.append(_export_study(store, name, report, place, places, reader))
        except (DataError, DecisionError) as error:
            exported.left_out.append(str(error))
    exported.studies = [each.name for each in labelled]
    if labelled:
        settings = options or RunOptions(split=(1.0, 0.0, 0.0))
        report_of_set = convert(ReviewedSet(reports, labelled, studies), out / SET, settings)
        exported.faults = report_faults(report_of_set)
    elif reopened and (out / SET / CONVERSION_REPORT).is_file():
        shutil.rmtree(out / SET)
    return exported


def _withdraw(place: Path) -> bool:
    """Remove what an earlier export wrote for a study; returns whether there was anything."""
    known = (place / CORRECTED).is_file()
    remove_report(place)
    (place / CORRECTED).unlink(missing_ok=True)
    return known


def _export_study(
    store: ReviewStore,
    name: str,
    report: StudyReport,
    place: Path,
    studies: Studies,
    reader: str | None,
) -> LabelledStudy:
    """Write the files of one study; returns its labels."""
    with studies.opened(report) as (study, source):
        corrected = correct(store, name, study, reader)
        with output_folder(place) as folder:
            _write_study(folder, corrected, study, source)
        patient = study.patient_id or name
        if source.renamed is not None:
            patient = source.renamed(study.patient_id) if study.patient_id else name
        slices = label_slices(corrected, study.shape)
    return LabelledStudy(name, patient, source, tuple(slices), exam_labels(corrected))


def _write_study(folder: Path, corrected: CorrectedStudy, study: CTStudy, source: Source) -> None:
    pixels = {lesion.number: lesion.pixels for lesion in corrected.lesions if lesion.pixels}
    write_mask(folder / MASK, study, pixels)
    notes: list[str] = []
    if study.sop_uids:
        notes = write_dicom_where_possible(
            folder,
            corrected.report,
            study,
            corrected.lesions,
            source.renamed,
            corrected.correction,
        )
    kept = {lesion.number for lesion in corrected.lesions}
    told: dict[str, Any] = {
        "study": corrected.decisions[0].study,
        "model": corrected.report["model"]["sha256"],
        "readers": corrected.readers,
        "verdict": corrected.verdict,
        "lesions": [
            {
                "number": number,
                "fate": fate,
                "label": corrected.labels.get(number),
                **({"found": corrected.report["lesions"][number - 1]} if number in kept else {}),
            }
            for number, fate in sorted(corrected.fates.items())
        ],
        "decisions": [asdict(each) for each in corrected.decisions],
        "notes": notes,
    }
    write_json(folder / CORRECTED, told)
