"""What is known of a study: unknown stays unknown, and nothing contradicts itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_unified.converters.contract.annotations import slice_faults
from pe_unified.converters.contract.schema import annotation_of_box
from pe_unified.converters.own.labels import put_together
from pe_unified.converters.own.marks import SliceMarks
from pe_unified.ct.exam_labels import EXAM_LABELS

BOX = annotation_of_box(1, 2, 3, 4)
MASK = {**BOX, "segmentation": {"size": [9, 9], "counts": "x"}}
ALL = ["slice", "boxes", "masks"]


def told(labels):
    return [(each.pe_present, each.known) for each in labels.slices]


def test_a_mask_knows_every_slice():
    labels = put_together(3, None, {}, [[], [MASK], []], SliceMarks())
    assert told(labels) == [(0, ALL), (1, ALL), (0, ALL)]
    assert labels.positive is True and labels.exam["negative_exam_for_pe"] == 0
    assert labels.exam.get("leftsided_pe") is None


def test_boxes_know_their_own_slices_alone():
    labels = put_together(3, 1, {}, None, SliceMarks({1: [BOX]}))
    assert told(labels) == [(None, []), (1, ["slice", "boxes"]), (None, [])]
    assert labels.slices[1].annotations == [BOX]


def test_labels_of_slices():
    labels = put_together(3, None, {}, None, SliceMarks(pe={0: 1, 2: 0}))
    assert told(labels) == [(1, ["slice"]), (None, []), (0, ALL)]
    assert labels.positive is True


@pytest.mark.parametrize("said", [{"pe": 0}, {"exam": {"negative_exam_for_pe": 1}}])
def test_a_negative_exam_has_negative_slices(said):
    labels = put_together(2, said.get("pe"), said.get("exam", {}), None, SliceMarks())
    assert told(labels) == [(0, ALL), (0, ALL)] and labels.positive is False
    assert labels.exam["negative_exam_for_pe"] == 1 and labels.exam["central_pe"] == 0
    assert labels.exam.get("qa_motion") is None


@pytest.mark.parametrize("said", [{"pe": 1}, {"exam": {"rightsided_pe": 1}}, {}])
def test_other_exams_say_nothing_of_slices(said):
    labels = put_together(2, said.get("pe"), said.get("exam", {}), None, SliceMarks())
    assert told(labels) == [(None, []), (None, [])]
    assert labels.positive is (True if said.get("pe") else None)
    assert labels.exam.get("negative_exam_for_pe") == (0 if said.get("pe") else None)


def test_an_indeterminate_exam_is_neither():
    labels = put_together(2, None, {"indeterminate": 1}, None, SliceMarks())
    assert labels.positive is None and told(labels)[0] == (None, [])


@pytest.mark.parametrize(
    ("pe", "exam", "masks", "marks", "said"),
    [
        (0, {}, [[], [MASK]], {}, "a negative exam with an embolus on slices 1"),
        (1, {}, [[], []], {}, "a positive exam, yet the mask is empty"),
        (1, {}, None, {"pe": {0: 0, 1: 0}}, "a positive exam, yet every slice is negative"),
        (1, {"negative_exam_for_pe": 1}, None, {}, "pe is 1, yet negative_exam_for_pe is 1"),
        (0, {"indeterminate": 1}, None, {}, "pe is 0, yet"),
        (1, {"indeterminate": 1}, None, {}, "pe is 1, yet"),
        (None, {}, None, {"boxes": {0: [BOX]}, "pe": {0: 0}}, "labelled negative, yet have"),
        (None, {}, [[MASK], []], {"pe": {1: 1}}, "slices 1: labelled positive, yet have no"),
    ],
)
def test_contradictions_are_named(pe, exam, masks, marks, said):
    (found,) = put_together(2, pe, exam, masks, SliceMarks(**marks)).contradictions
    assert said in found


def test_an_empty_mask_is_doubtful_where_nothing_else_is_said():
    labels = put_together(2, None, {}, [[], []], SliceMarks())
    assert labels.positive is False and "the mask is empty" in labels.doubts[-1]
    assert not put_together(2, 0, {}, [[], []], SliceMarks()).doubts
    labels = put_together(2, None, {}, [[], []], SliceMarks(), "the mask has 255, but no 1")
    assert labels.doubts == ["the mask has 255, but no 1, so the exam counts as negative"]


BITS = st.sampled_from([0, 1, None])


@given(
    pe=BITS,
    exam=st.dictionaries(st.sampled_from(EXAM_LABELS), st.sampled_from([0, 1])),
    masks=st.none() | st.lists(st.booleans(), min_size=4, max_size=4),
    boxed=st.sets(st.integers(0, 3)),
    slices=st.dictionaries(st.integers(0, 3), st.sampled_from([0, 1])),
)
def test_labels_always_keep_the_contract(pe, exam, masks, boxed, slices):
    """Whatever is said, slices are as ``verify`` wants them; labels that are given stay."""
    annotations = None if masks is None else [[MASK] if each else [] for each in masks]
    marks = SliceMarks({index: [BOX] for index in boxed}, slices)
    labels = put_together(4, pe, exam, annotations, marks)
    for each in labels.slices:
        image = {
            "pe_present": each.pe_present,
            "labels_known": each.known,
            "lung_box": None,
            "width": 99,
            "height": 99,
        }
        assert not list(slice_faults(image, [{"id": 1, **item} for item in each.annotations]))
    assert all(labels.exam[name] == value for name, value in exam.items())
    if not labels.contradictions and labels.positive_slices:
        assert labels.positive and pe != 0
