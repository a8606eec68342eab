"""What publishing validates on is what a report says."""

import json

import pytest

from pe_unified.datasets import PESliceDataset
from pe_unified.inference.converted import judge_exams, whole_exams
from pe_unified.reports import analyse_study


def dataset_of(root, split="test"):
    return PESliceDataset(f"annotations/{split}.json", str(root), test_mode=True)


def test_a_converted_study_is_judged_as_its_files_are(painted_set, predictor, tmp_path):
    labels, exams = whole_exams(dataset_of(painted_set[0]))
    assert len(exams) == 2 and all(labels)
    for exam, verdict in zip(exams, judge_exams(predictor, exams), strict=True):
        raw = painted_set[1].parent / "CT_scans" / exam.source.name
        report = analyse_study(raw, tmp_path / exam.source.name, predictor)
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
    first = whole_exams(dataset_of(painted_set[0]))[1][0].source.name

    def gap(image):
        return not (image["patient_id"] == first and image["slice_index"] == 3)

    def unknown(image):
        if image["patient_id"] == first:
            image["labels_known"], image["pe_present"] = [], None

    def negative(image):
        if image["patient_id"] == first:
            image["pe_present"] = 0

    assert len(whole_exams(change(painted_set[0], tmp_path / "gap", gap))[1]) == 1
    assert len(whole_exams(change(painted_set[0], tmp_path / "unknown", unknown))[1]) == 1
    labels, _ = whole_exams(change(painted_set[0], tmp_path / "negative", negative))
    assert sorted(labels) == [False, True]
