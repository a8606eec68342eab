"""What figures are drawn of, and how a file of one looks."""

import cv2
import numpy as np

from pe_unified.evaluation import figures
from pe_unified.evaluation.detection import DetTable, match_slice
from pe_unified.evaluation.exams import ExamTable
from pe_unified.evaluation.froc import LesionTable
from pe_unified.evaluation.slices import SliceTable


def slice_table(positives: bool = True) -> SliceTable:
    generator = np.random.default_rng(0)
    label = (generator.random(80) < 0.4) & positives
    score = np.clip(0.4 * label + 0.6 * generator.random(80), 0, 1)
    return SliceTable.build([f"P{index % 6}" for index in range(80)], label, score)


def det_table(boxes: bool = True) -> DetTable:
    box = np.array([[0.0, 0, 10, 10]])
    matches = [match_slice(box[: int(boxes)], box + 0.1 * i, [0.9 - i / 20]) for i in range(8)]
    return DetTable.build([f"P{index % 4}" for index in range(8)], matches)


def lesion_table() -> LesionTable:
    distances = [np.array([[1.0], [30.0]])] * 3
    return LesionTable.build(list("abc"), [np.array([0.8, 0.6])] * 3, distances, 5.0)


def a_view(**changes) -> figures.SliceView:
    hu = np.full((60, 80), 40, dtype=np.int16)
    truth, found = np.zeros((2, 60, 80), dtype=bool)
    truth[20:30, 30:40] = True
    found[22:32, 31:41] = True
    fields = dict(
        hu=hu,
        patient="PAT007",
        slice_index=12,
        truth_mask=truth,
        predicted_mask=found,
        truth_boxes=np.array([[30.0, 20, 40, 30]]),
        predicted_boxes=np.array([[31.0, 22, 41, 32]]),
        box_scores=np.array([0.87]),
        label=True,
        probability=0.91,
    )
    return figures.SliceView(**(fields | changes))


def assert_picture(path) -> None:
    picture = cv2.imread(str(path))
    assert picture is not None and min(picture.shape[:2]) > 200
    assert picture.std() > 5, "the picture is blank"
    assert [one.name for one in path.parent.iterdir()] == [path.name], "a part was left behind"


def exam_table(seed: int, exams: int = 60, targets: int = 10) -> ExamTable:
    """The first ``targets`` of the ten are answered."""
    generator = np.random.default_rng(seed)
    label = (generator.random((exams, 10)) < 0.4).astype(float)
    score = np.clip(0.3 * label + 0.7 * generator.random((exams, 10)), 0, 1)
    score[:, targets:] = np.nan
    nothing = [None] * exams
    return ExamTable.build([f"P{index}" for index in range(exams)], label, score, nothing, nothing)
