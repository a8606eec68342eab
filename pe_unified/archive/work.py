"""Analyses one study of the queue, in a separate process."""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import torch
from pydicom import dcmread

from pe_unified.archive.job import KEY_IMAGES, Answer, Request
from pe_unified.archive.key_images import write_key_images
from pe_unified.archive.logs import hush_libraries
from pe_unified.archive.store import Result
from pe_unified.errors import CheckpointError, DataError
from pe_unified.inference.predictor import PredictorSettings, StudyPredictor
from pe_unified.reports.analysis import AnalysisOptions, analyse_study
from pe_unified.reports.file_names import FINDINGS, SEGMENTATION

_NO_ROOM = "the folder of reports cannot be written to; make room"


def analyse(request: Request) -> Answer:
    """Analyse a study and write the objects to send."""
    if request.threads:
        torch.set_num_threads(request.threads)
    cv2.setNumThreads(1)
    hush_libraries()
    options = AnalysisOptions(study_uid=request.study, **request.options)
    try:
        predictor = _predictor(PredictorSettings(**request.model))
        report = analyse_study(request.images, request.out, predictor, options)
        if request.key_images:
            write_key_images(request.out / KEY_IMAGES, request.images, report, request.key_images)
    except CheckpointError as error:  # not the study's fault either
        return Answer(reason=f"the model cannot be used: {error}")
    except DataError as error:
        if error.where == str(request.out):  # a full disk is not the study's fault
            return Answer(reason=_NO_ROOM)
        return Answer(reason=error.without_names(), final=True)
    except OSError:
        return Answer(reason=_NO_ROOM)
    results = results_in(request.out)
    if not results:
        notes = [note for note in report["input"]["notes"] if "no SEG" in note]
        return Answer(reason="; ".join(notes) or "no SEG and no SR", final=True)
    return Answer(results, verdict=_verdict(report), seconds=report["seconds"]["total"])


@lru_cache(maxsize=1)
def _predictor(settings: PredictorSettings) -> StudyPredictor:
    """The model, loaded once per process."""
    return settings.predictor()


def results_in(out: Path) -> tuple[Result, ...]:
    """The DICOM objects of a report, in the order of sending."""
    found = [("seg", out / SEGMENTATION), ("sr", out / FINDINGS)]
    found += [("key_images", path) for path in sorted((out / KEY_IMAGES).glob("*.dcm"))]
    results = []
    for kind, path in found:
        with suppress(FileNotFoundError):
            uid = dcmread(path, stop_before_pixels=True).SOPInstanceUID
            results.append(Result(kind, path, str(uid)))
    return tuple(results)


def _verdict(report: Mapping[str, Any]) -> str:
    if report["quality"]["abstain"]:
        return "abstained"
    return {True: "positive", False: "negative", None: "not called"}[report["exam"]["positive"]]
