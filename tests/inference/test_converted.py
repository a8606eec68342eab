"""What publishing validates on is what a report says."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from pe_unified.datasets import PESliceDataset
from pe_unified.evaluation.verdict import ExamThresholds
from pe_unified.inference.converted import touching, whole_exams
from pe_unified.inference.exam_readings import read_exams
from pe_unified.inference.lesion_marks import LesionMark
from pe_unified.inference.lesions import find_lesions
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.slice_prediction import SlicePrediction
from pe_unified.inference.survey import survey
from pe_unified.reports.analysis import analyse_study

pytestmark = pytest.mark.usefixtures("without_dicom")


def dataset_of(root, split="test"):
    return PESliceDataset(f"annotations/{split}.json", str(root), test_mode=True)


def test_a_converted_study_is_judged_as_its_files_are(painted_set, predictor, tmp_path):
    exams = whole_exams(dataset_of(painted_set[0]))
    assert len(exams) == 2 and all(exam.positive for exam in exams)
    fixed = predictor.model.thresholds
    for reading in read_exams(predictor, exams, "reading"):
        verdict = reading.verdict(ExamThresholds(fixed.exam, fixed.lesion))
        raw = painted_set[1].parent / "CT_scans" / reading.patient
        report = analyse_study(raw, tmp_path / reading.patient, predictor)
        assert verdict.stretch_score == pytest.approx(report["exam"]["probability"], abs=2e-4)
        assert verdict.lesion_score == pytest.approx(report["exam"]["lesion_score"], abs=2e-4)
        assert verdict.positive == report["exam"]["positive"]
        assert list(verdict.lesions) == [each["called"] for each in report["lesions"]]


def change(root, out, alter):
    """The test split with other slices."""
    coco = json.loads((root / "annotations/test.json").read_text(encoding="utf-8"))
    coco["images"] = [image for image in coco["images"] if alter(image) is not False]
    ids = {image["id"] for image in coco["images"]}
    coco["annotations"] = [each for each in coco["annotations"] if each["image_id"] in ids]
    (out / "annotations").mkdir(parents=True)
    (out / "annotations/test.json").write_text(json.dumps(coco), encoding="utf-8")
    return dataset_of(out)


def test_studies_with_gaps_or_without_a_label_are_left_out(painted_set, tmp_path):
    first = whole_exams(dataset_of(painted_set[0]))[0].patient

    def gap(image):
        return not (image["patient_id"] == first and image["slice_index"] == 3)

    def unknown(image):
        if image["patient_id"] == first:
            image["labels_known"], image["pe_present"] = [], None

    def negative(image):
        if image["patient_id"] == first:
            image["pe_present"] = 0

    assert len(whole_exams(change(painted_set[0], tmp_path / "gap", gap))) == 1
    assert len(whole_exams(change(painted_set[0], tmp_path / "unknown", unknown))) == 1
    exams = whole_exams(change(painted_set[0], tmp_path / "negative", negative))
    assert sorted(exam.positive for exam in exams) == [False, True]


def volume_of(exam):
    """The true masks of an exam, stacked."""
    rows, cols = exam.study.shape[1:]
    empty = np.zeros((rows, cols), bool)
    return np.stack(
        [np.any([coco_mask.decode(m) for m in each["masks"]] or [empty], 0) for each in exam.slices]
    )


def test_emboli_are_the_pieces_of_the_masks(painted_set):
    exam = whole_exams(dataset_of(painted_set[0]))[0]
    volume = volume_of(exam)
    _, count = ndimage.label(volume, np.ones((3, 3, 3)))
    emboli = exam.emboli()
    assert len(emboli) == count > 0
    assert sum(len(part.pixels) for embolus in emboli for part in embolus) == volume.sum()


def test_masks_unknown_leave_emboli_unknown_but_not_on_negative_slices(painted_set, tmp_path):
    def forget(image):
        image["labels_known"] = ["slice"]

    def negative(image):
        image["labels_known"], image["pe_present"] = ["slice"], 0

    unknown = whole_exams(change(painted_set[0], tmp_path / "unknown", forget))
    assert [exam.emboli() for exam in unknown] == [None, None]
    empty = whole_exams(change(painted_set[0], tmp_path / "negative", negative))
    assert [exam.emboli() for exam in empty] == [[], []]


def test_a_lesion_touches_what_it_shares_a_slice_and_a_pixel_or_a_box_with(painted_set):
    exam = whole_exams(dataset_of(painted_set[0]))[0]
    emboli = exam.emboli()
    reader, shape = SliceReader(exam.study), exam.study.shape[1:]
    part = emboli[0][0]

    def lesions(pixels=(), boxes=(), index=part.index, marks=()):
        own = [
            SlicePrediction(
                index=k,
                probability=None,
                examined=True,
                pixels=np.array(pixels if k == index else (), np.int32),
                pixel_probability=np.ones(len(pixels) if k == index else 0, np.float32),
                boxes=np.array(boxes if k == index else (), np.float32).reshape(-1, 4),
                scores=np.ones(len(boxes) if k == index else 0, np.float32),
            )
            for k in range(len(exam.slices))
        ]
        return find_lesions(own, reader, survey(reader), smallest_ml=0.0, marks=marks)

    def touched(found):
        return touching(found, emboli, shape).tolist()

    alone = [True] + [False] * (len(emboli) - 1)
    assert touched(lesions(pixels=part.pixels[:1])) == [alone]
    assert touched(lesions(boxes=[part.box])) == [alone]
    for times, finds in ((9, True), (12, False)):  # 10 and 7.7 % of it in the embolus
        truth = np.concatenate([each.pixels for each in emboli[0] if each.index == part.index])
        rows, cols = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
        row, col = np.divmod(truth[0], shape[1])
        nearest = np.argsort(np.hypot(rows - row, cols - col), kind="stable")
        around = nearest[~np.isin(nearest, truth)][: times * len(truth)]
        sprawling = np.sort(np.concatenate([truth, around]))
        assert touched(lesions(pixels=sprawling))[0][0] is finds
    far = [0, 0, 3, 3]
    assert not np.any(touched(lesions(boxes=[far])))
    row, col = np.divmod(part.pixels[0], shape[1])
    place = exam.study.position_mm(part.index, row, col)
    assert touched(lesions(marks=[LesionMark(place, 0.7)]))[0][0]
    beyond = exam.study.position_mm(part.index, row + 40, col)
    assert not np.any(touched(lesions(marks=[LesionMark(beyond, 0.7)])))
