"""Studies of a converted set, read and judged by the same code as for a report."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.ct.hu import read_slice_png
from pe_unified.ct.study import CTStudy
from pe_unified.datasets import PESliceDataset
from pe_unified.evaluation.verdict import Verdict
from pe_unified.inference.lesions import find_lesions, judge_study
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey
from pe_unified.progress import track


def whole_exams(dataset: PESliceDataset) -> tuple[list[bool], list[CTStudy]]:
    """The studies of a set whose label is known, and whether they show embolism.

    Left out are studies with an unknown label and no positive slice, and those of which slices are
    missing, whose neighbours in the set are none in the body.

    Args:
        dataset: with every slice of its studies.
    """
    series: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for number in range(len(dataset)):
        item = dataset.get_data_info(number)
        series[item["patient_id"], item["study_uid"], item["series_uid"]].append(item)
    labels, studies = [], []
    for items in series.values():
        items.sort(key=lambda item: item["slice_index"])
        known = [item["label"] for item in items]
        gaps = np.diff([item["slice_index"] for item in items]) != 1
        if gaps.any() or (1 not in known and None in known):
            continue
        labels.append(1 in known)
        studies.append(_as_study(items))
    return labels, studies


def _as_study(items: Sequence[dict[str, Any]]) -> CTStudy:
    """Converted sets keep no position within the slice, and no verdict depends on it."""
    first = items[0]
    spacing = tuple(first["spacing_mm"] or (None, None, None))
    paths = tuple(Path(item["img_path"]) for item in items)
    return CTStudy(
        source=paths[0].parent,
        shape=(len(items), first["height"], first["width"]),
        spacing_mm=spacing,
        origin_mm=(0.0, 0.0, 0.0),
        direction=np.eye(3),
        step_mm=(0.0, 0.0, spacing[2] or 1.0),
        z_mm=tuple(item["z_mm"] for item in items),
        read=partial(_read, paths),
    )


def _read(paths: Sequence[Path], index: int) -> np.ndarray:
    return read_slice_png(paths[index])


def judge_exams(predictor: StudyPredictor, studies: Sequence[CTStudy]) -> list[Verdict]:
    """What a report of each study would say."""
    verdicts = []
    for study in track(studies, "reading validation studies"):
        reader = SliceReader(study)
        first_look = survey(reader)
        predictions = predictor.predict(reader, first_look)
        lesions = find_lesions(predictions, reader, first_look)
        step_mm = study.known_spacing()[2]
        verdicts.append(judge_study(predictions, lesions, step_mm, predictor.model)[0])
    return verdicts
