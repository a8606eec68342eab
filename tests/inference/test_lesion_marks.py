"""Marks of a model in 3D: read, placed, and joined with what the slices show."""

import numpy as np
import pytest
from studies import SPACING, study_of, survey_of

from pe_unified.errors import DataError
from pe_unified.evaluation.lesion_fusion import LesionFusion, Term
from pe_unified.inference.lesion_marks import LesionMark, marks_of, read_marks, voxel_of
from pe_unified.inference.lesions import find_lesions
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.slice_prediction import SlicePrediction


def test_marks_of_a_study_go_by_its_uid_or_its_name(tmp_path):
    file = tmp_path / "marks.csv"
    file.write_text("id,x,y,z,prob,note\n1.2.3,1,2,3,0.5,\nstudy,4,5,6,1,seen\nother,0,0,0,0,\n")
    marks = read_marks(file)
    study = study_of(np.zeros((3, 4, 4), np.int16))
    assert marks_of(marks, study) == [LesionMark((4.0, 5.0, 6.0), 1.0)]
    assert marks["1.2.3"] == [LesionMark((1.0, 2.0, 3.0), 0.5)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("id,x,y,z\na,1,2,3\n", "no marks in mm with probabilities"),
        ("a 1 2 3 0.5\n", "no marks in mm with probabilities"),
        ("id,x,y,z,prob\na,1,2,3,1.5\n", "no marks in mm with probabilities"),
        ("id,x,y,z,prob\na,1,2,3,0.5\na,1,2,,0.5\n", "line 3"),
        ("id,x,y,z,prob\na,nan,2,3,0.5\n", "line 2"),
        (None, "no such file"),
        (b"\xff\xfe\x00", "no readable text"),
    ],
)
def test_what_is_no_table_of_marks_is_told(tmp_path, text, fault):
    if text is not None:
        (tmp_path / "marks.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=fault):
        read_marks(tmp_path / "marks.csv")


@pytest.mark.parametrize("place", [(0, 0, 0), (3, 7.25, 2.5), (5, 11, 19)])
def test_a_mark_lies_where_the_study_says(place):
    study = study_of(np.zeros((6, 12, 20), np.int16))
    found = voxel_of(LesionMark(study.position_mm(*place), 0.5), study)
    assert found == pytest.approx(place)


def lesions_of(marks, pixels=(), boxes=(), fusion=None, slices=range(6)):
    study = study_of(np.zeros((6, 60, 80), np.int16))
    found = [
        SlicePrediction(
            index=k,
            probability=0.1 * k,
            examined=True,
            pixels=np.array(pixels if k == 3 else (), np.int32),
            pixel_probability=np.full(len(pixels) if k == 3 else 0, 0.6, np.float32),
            boxes=np.array(boxes if k == 3 else (), np.float32).reshape(-1, 4),
            scores=np.full(len(boxes) if k == 3 else 0, 0.7, np.float32),
        )
        for k in slices
    ]
    placed = [LesionMark(study.position_mm(*place), p) for place, p in marks]
    looked = survey_of((6, 60, 80))
    return find_lesions(found, SliceReader(study), looked, marks=placed, fusion=fusion)


PIXELS = [20 * 80 + 30 + k for k in range(40)]  # a row of 40


def test_a_mark_joins_what_it_touches_and_is_a_lesion_of_its_own_elsewhere():
    row = 20 + 5 / SPACING[0]  # at the rim of its disc
    near, far = (3, row - 0.5, 40), (2, 50, 10)
    joined, alone = lesions_of([(near, 0.3), (far, 0.2)], PIXELS)
    assert (joined.mask_score, joined.mark_score) == (pytest.approx(0.6), 0.3)
    assert joined.score == pytest.approx(0.6) and joined.slice_score == pytest.approx(0.3)
    assert joined.volume_ml == pytest.approx(40 * np.prod(SPACING) / 1000)  # of the mask alone
    assert (alone.mask_score, alone.box_score, alone.score) == (None, None, 0.2)
    assert alone.centroid == pytest.approx(far) and not alone.pixels and not alone.boxes
    assert len(lesions_of([((3, row + 1.5, 40), 0.3)], PIXELS)) == 2


def test_a_mark_joins_the_mask_of_the_next_slice_and_the_box_around_it():
    (one,) = lesions_of([((4, 20, 45), 0.9)], PIXELS)
    assert one.slices == (3, 4) and one.score == 0.9
    (boxed,) = lesions_of([((3, 20, 45), 0.9)], boxes=[[30, 5, 60, 35]])
    assert (boxed.box_score, boxed.mark_score) == (pytest.approx(0.7), 0.9)


def test_marks_off_the_slices_are_left_out():
    assert lesions_of([((5, 20, 40), 0.9)], slices=range(4)) == []
    assert lesions_of([((3, 500, 40), 0.9)]) == []


def test_a_fusion_gives_the_score_and_the_order():
    """One that trusts marks alone."""
    fusion = LesionFusion(0.0, (Term("mark", 0.0, 1.0, 1.0, -2.0),), 20, 10)
    first, second = lesions_of([((2, 50, 10), 0.2)], PIXELS, fusion=fusion)
    assert first.mark_score == 0.2 and first.score == pytest.approx(0.2)
    assert second.mask_score == pytest.approx(0.6) and second.score == pytest.approx(
        0.1192, abs=1e-4
    )
    assert (first.number, second.number) == (1, 2)
