"""Analyses one study: from its files to its report."""

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pe_unified.ct.opening import open_study
from pe_unified.ct.structures import Structures, read_structures
from pe_unified.ct.study import CTStudy
from pe_unified.errors import CheckpointError, DataError
from pe_unified.inference.exam import predict_exam
from pe_unified.inference.lesion_marks import marks_of, read_marks
from pe_unified.inference.lesions import find_lesions, judge_study
from pe_unified.inference.lung_sources import lung_source
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.inference.quality import check_quality
from pe_unified.inference.reading import Progress, SliceReader
from pe_unified.inference.survey import survey
from pe_unified.inference.volumes import predict_study
from pe_unified.memory import give_back_freed_memory
from pe_unified.paths import require_apart
from pe_unified.progress import drop, tell
from pe_unified.reports.file_names import LUNGS
from pe_unified.reports.files import output_folder, require_writable, write_files, write_report
from pe_unified.reports.fingerprint import fingerprint
from pe_unified.reports.mask_file import write_lungs
from pe_unified.reports.measurements import measure
from pe_unified.reports.report import build_report, pseudonym, pseudonymised

#: Allowed number of slices: fewer do not cover the chest, more are not a single scan.
SLICES = (8, 3000)
#: With fewer rows or columns an embolus cannot be seen.
LEAST_SIDE = 32
#: Limits in mm: smallest pixel, widest field of view, largest distance between slices.
_PIXEL_MM, _WIDEST_MM, _STEP_MM = 0.05, 1500.0, 20.0
#: Rows run from side to side if the cosine of their angle to that direction is at least this.
_UPRIGHT = 0.7
_CURE = "point to the CT angiography"
_SERIES = "pe-unified infer takes its series by --series"


@dataclass(frozen=True)
class AnalysisOptions:
    """How a study is analysed.

    Attributes:
        series_uid: the series to take if a folder holds several.
        study_uid: the study to take if a folder holds several, or ``newest``.
        every_slice: look at all slices, also those beyond the lungs.
        pseudonym_key: secret by which patient and UIDs are replaced; None keeps them. Only the
            DICOM objects name the patient.
        lungs_from: one of :data:`~pe_unified.options.LUNG_SOURCES`.
        lung_mask: also write the lungs, as ``lungs.nii.gz``.
        structures: masks of ventricles and arteries of this study, see
            :func:`~pe_unified.ct.structures.read_structures`.
        marks: file with the marks of a 3D model, see
            :func:`~pe_unified.inference.lesion_marks.read_marks`.
    """

    series_uid: str | None = None
    study_uid: str | None = None
    every_slice: bool = False
    pseudonym_key: str | None = None
    lungs_from: str = "auto"
    lung_mask: bool = False
    structures: Path | None = None
    marks: Path | None = None

    def as_dict(self, detector: bool = False) -> dict[str, Any]:
        """The options as the report lists them, without the secret; ``detector``: whether there is
        a lung detector."""
        return {
            "every_slice": self.every_slice,
            "pseudonymised": self.pseudonym_key is not None,
            "lungs_from": lung_source(self.lungs_from, detector),
            "series_named": self.series_uid is not None or self.study_uid is not None,
        }

    def fingerprint(self, path: Path) -> str:
        """A hash that changes with the files of a study and with the series or study asked for.

        Raises:
            DataError: a folder cannot be listed.
        """
        key = self.pseudonym_key or ""
        files = fingerprint(path, key)
        asked = (self.series_uid, self.study_uid)
        if asked == (None, None):
            return files
        # Include the files: from a hash of the ID alone, the patient's ID could be guessed.
        digest = hashlib.blake2b(digest_size=16, key=key.encode()[:64])
        digest.update(f"{files}{asked}".encode())
        return digest.hexdigest()


def analyse_study(
    path: Path,
    out: Path,
    predictor: StudyPredictor,
    options: AnalysisOptions | None = None,
    progress: Progress | None = None,
    opened: Callable[[CTStudy], None] | None = None,
) -> dict[str, Any]:
    """Analyse one study and write its report into ``out``.

    Args:
        path: whatever :func:`~pe_unified.ct.opening.open_study` opens.
        out: folder; gets the files of :func:`~pe_unified.reports.files.write_files`.
        predictor: holds the model, and the exam model if there is one.
        options: see :class:`AnalysisOptions`.
        progress: called with the slices done and their number.
        opened: called with the study once it is selected.

    Returns:
        The content of ``report.json``.

    Raises:
        SeveralStudies: the folder holds several patients or dates, and none was selected.
        DataError: the study, its masks or marks cannot be read or are not valid, or ``out`` cannot
            be written or lies inside the study.
        CheckpointError: the source of the lungs cannot be used, or there are marks but the model
            finds no lesions to join them with.
    """
    options = options or AnalysisOptions()
    if options.marks is not None:
        predictor = predictor.without_volumes()
    marked = options.marks is not None or predictor.volume_model is not None
    if marked and not predictor.model.looks_for_lesions:
        raise CheckpointError(
            "marks join the lesions of a model that outlines or boxes emboli; this model does "
            f"neither (its tasks: {', '.join(predictor.model.tasks)}): use another model, or "
            "leave out the option that gives marks (--marks or --volume-checkpoint)"
        )
    settings = {"gate": predictor.wants_gate, **options.as_dict(predictor.lungs is not None)}
    require_apart(out, path)
    require_writable(out)
    marks = {} if options.marks is None else read_marks(options.marks)
    optional = {"exam_model": predictor.exam_model, "volume_model": predictor.volume_model}
    watch = _Watch([each for each in _STAGES if optional.get(each, True) is not None])
    # Taken before reading: files that are added later belong to another study.
    files = ""
    with suppress(OSError, DataError):  # opening the study gives the better message
        files = options.fingerprint(path)
    with open_study(path, options.series_uid, study_uid=options.study_uid) as study:
        _require_study(study)
        if opened is not None:
            opened(study)
        structures = Structures()
        if options.structures is not None:
            structures = read_structures(options.structures, study)
        watch.lap("opening")
        reader = SliceReader(study)
        first_look = survey(reader, options.every_slice, options.lungs_from, predictor.lungs)
        watch.lap("survey")
        flags = check_quality(reader, first_look)
        watch.lap("quality")
        own_marks, no_volume = marks_of(marks, study), ""
        every_slice = options.every_slice or bool(own_marks)
        predictions = predictor.predict(reader, first_look, progress, every_slice)
        watch.lap("network")
        given = bool(own_marks)
        if predictor.volume_model is not None:
            try:
                own_marks += predict_study(predictor.volume_model, study).lesion_marks()
            except DataError as error:
                no_volume = f"the model of volumes gives no answer for this study: {error.reason}"
            watch.lap("volume_model")
        fusion = predictor.model.fusion
        candidates = find_lesions(predictions, reader, first_look, marks=own_marks, fusion=fusion)
        step_mm = study.known_spacing()[2]
        verdict, lesions = judge_study(predictions, candidates, step_mm, predictor.model)
        measured = measure(study, lesions, predictor.model.tasks, structures)
        watch.lap("lesions")
        answer = None
        if predictor.exam_model is not None:
            asked = partial(tell, _STAGES["exam_model"])
            known = {each.index: each.features for each in predictions if each.features is not None}
            answer = predict_exam(
                predictor.exam_model, reader, first_look, asked, predictor.batch_size, known
            )
            watch.lap("exam_model")
        give_back_freed_memory()  # memory of the network, before the files need it
        report = build_report(
            study,
            first_look,
            flags,
            predictions,
            lesions,
            verdict,
            predictor,
            settings,
            measured,
            answer,
        )
        report["input"]["notes"] += structures.notes
        report["input"]["notes"] += [no_volume] if no_volume else []
        if options.marks is not None and not given:
            report["input"]["notes"].append("the file of marks has none for this study")
        report["input"]["fingerprint"] = files
        renamed: Callable[[str], str] | None = None
        if options.pseudonym_key is not None:
            renamed = partial(pseudonym, key=options.pseudonym_key)
            report = pseudonymised(report, options.pseudonym_key)
        report["seconds"] = watch.seconds
        with output_folder(out) as folder:
            write_files(folder, report, reader, lesions, renamed)
            if options.lung_mask:
                write_lungs(folder / LUNGS, reader, first_look)
            watch.lap("files")
            write_report(folder, report)
    return report


def _require_study(study: CTStudy) -> None:
    count, rows, cols = study.shape
    least, most = SLICES
    cure = f"{_CURE}; {_SERIES}" if study.sop_uids else _CURE
    if not least <= count <= most:
        reason = f"{count} slices; a study of the chest has {least} to {most}"
        raise DataError(study.source, reason, cure)
    if min(rows, cols) < LEAST_SIDE:
        reason = f"slices of {rows} x {cols} pixels are too small to show an embolus"
        raise DataError(study.source, reason, cure)
    if None in study.spacing_mm:
        reason = "no spacing between pixels or slices, so nothing can be measured"
        raise DataError(study.source, reason, "export the study with its geometry")
    if study.contradictions:
        reason = f"the slices come from more than one scan: {'; '.join(study.contradictions)}"
        raise DataError(study.source, reason, "export its parts as separate series")
    if abs(study.direction[0, 0]) < _UPRIGHT:
        reason = "the rows of its slices do not run from side to side"
        cure = "reformat it to axial slices" if study.grid else "convert it to NIfTI"
        raise DataError(study.source, reason, cure)
    row, col, step = study.known_spacing()
    widest = max(rows * row, cols * col)
    if not (min(row, col) >= _PIXEL_MM and widest <= _WIDEST_MM and step <= _STEP_MM):
        size = f"{cols * col:.4g} x {rows * row:.4g} mm, slices every {step:.4g} mm"
        reason = f"{size}: not the size of a chest"
        raise DataError(study.source, reason, "check the spacing in its headers")


#: The stages in their order, with the words shown for them.
_STAGES = {
    "opening": "opening the study",
    "survey": "looking for the lungs",
    "quality": "judging the quality",
    "network": "running the network",
    "volume_model": "running the model of volumes",
    "lesions": "describing lesions",
    "exam_model": "running the exam model",
    "files": "writing the report",
}


class _Watch:
    """Measures the seconds of each stage and shows the one that is running.

    Args:
        stages: in the order in which they end.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.stages = stages
        self.seconds: dict[str, float] = {}
        self._start = self._last = time.perf_counter()
        tell(_STAGES["opening"])

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 3)
        self._last = now
        self.seconds["total"] = round(now - self._start, 3)
        drop(_STAGES[stage])
        following = self.stages.index(stage) + 1
        if following < len(self.stages):
            tell(_STAGES[self.stages[following]])
