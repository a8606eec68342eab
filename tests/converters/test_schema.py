import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jsonschema import Draft7Validator
from pycocotools import mask as rle_tools
from scipy import ndimage

from pe_unified.converters.contract.schema import (
    ALL_LABELS,
    CATEGORIES,
    EXAM_LABELS,
    HU_OFFSET,
    annotation_of_box,
    annotations_of_mask,
    decode_mask,
    exam_entry,
    exam_labels_from_masks,
    folder_name,
    union_mask,
)

masks = arrays(
    np.uint8, st.tuples(st.integers(1, 17), st.integers(1, 17)), elements=st.integers(0, 1)
)


@settings(max_examples=150)
@given(masks)
def test_components_survive_to_the_pixel(mask):
    annotations = annotations_of_mask(mask)
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    assert len(annotations) == count
    expected = {(parts == part).tobytes() for part in range(1, count + 1)}
    decoded = {decode_mask(item["segmentation"]).astype(bool).tobytes() for item in annotations}
    assert decoded == expected
    for item in annotations:
        code = item["segmentation"]
        assert item["area"] == rle_tools.area(code) == decode_mask(code).sum()
        assert item["bbox"] == rle_tools.toBbox(code).tolist()
        assert code["size"] == list(mask.shape) and isinstance(code["counts"], str)
        assert "instance_id" not in item
    union = union_mask(annotations)
    assert (union is None) == (count == 0)
    if count:
        np.testing.assert_array_equal(union, mask)


@settings(max_examples=60)
@given(arrays(np.int32, (9, 11), elements=st.sampled_from([0, 0, 1, 3, 70000])))
def test_touching_instances_stay_apart(labels):
    annotations = annotations_of_mask(labels, instances=True)
    rebuilt = np.zeros_like(labels)
    for item in annotations:
        mask = decode_mask(item["segmentation"]).astype(bool)
        assert not rebuilt[mask].any()
        rebuilt[mask] = item["instance_id"]
    np.testing.assert_array_equal(rebuilt, labels)


def test_diagonal_pixels_are_one_component():
    assert len(annotations_of_mask(np.eye(5, dtype=np.uint8))) == 1


def test_boxes_without_masks():
    item = annotation_of_box(1.5, 2, 10, 4, artery="left")
    assert item["area"] == 40 and item["segmentation"] == [] and item["artery"] == "left"
    assert union_mask([item]) is None


def test_unknown_exam_labels_are_null():
    entry = exam_entry("st", "p", {"central_pe": 1})
    assert list(entry)[2:] == list(EXAM_LABELS)
    assert entry["central_pe"] == 1
    assert all(entry[name] is None for name in EXAM_LABELS if name != "central_pe")


def test_exam_labels_that_masks_imply():
    positive = exam_entry("st", "p", exam_labels_from_masks(True))
    assert positive["negative_exam_for_pe"] == 0 and positive["central_pe"] is None
    negative = exam_entry("st", "p", exam_labels_from_masks(False))
    assert negative["negative_exam_for_pe"] == 1 and negative["indeterminate"] == 0
    assert negative["central_pe"] == 0 and negative["qa_motion"] is None


@pytest.mark.parametrize(
    ("identifier", "folder"),
    [("PAT001", "PAT001"), ("../x y", "_x_y"), ("..", "_"), ("a/b", "a_b"), ("", "_")],
)
def test_folder_names(identifier, folder):
    assert folder_name(identifier) == folder


def test_the_schema_file_says_what_the_code_writes(repository):
    folder = repository / "pe_unified/converters/contract"
    schema = json.loads((folder / "annotations.schema.json").read_text("utf-8"))
    Draft7Validator.check_schema(schema)
    entries = schema["definitions"]
    images, exams = (entries[kind]["properties"] for kind in ("image", "exam"))
    assert entries["info"]["properties"]["hu_offset"]["const"] == HU_OFFSET
    assert schema["properties"]["categories"]["const"] == CATEGORIES
    assert images["labels_known"]["items"]["enum"] == list(ALL_LABELS)
    assert list(exams) == entries["exam"]["required"]
    assert list(exams) == list(exam_entry("s", "p")) == ["study_uid", "patient_id", *EXAM_LABELS]
    for each in (schema, *entries.values()):
        assert all("description" in field for field in (each, *each["properties"].values()))
