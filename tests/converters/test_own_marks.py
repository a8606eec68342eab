"""Boxes and labels of slices in a hospital's folder."""

import json

import numpy as np
import pytest
from dicom_files import write_enhanced
from hypothesis import given
from hypothesis import strategies as st
from own_folder import EMPTY, by_study, uid_of
from studies import study_of

from pe_unified.converters.own.marks import Mark, marks_of, read_marks
from pe_unified.converters.pipeline.run import report_faults
from pe_unified.converters.verify import verify
from pe_unified.ct.opening import open_slices
from pe_unified.errors import DataError


def test_boxes_and_labels_of_slices(changed):
    raw, rewrite, run = changed
    rewrite(";nein;", ";;")
    boxes = "Studie;study;sop;instance;slice;x;y;w;h\n"
    uid = f"{uid_of('B1')}.1.3"
    boxes += f";;{uid};;;2,5;3;4;5\n;B1;;7;;1;1;3;3\n;B1;;;4;46;46;5;5\n"
    (raw / "boxes.csv").write_text(boxes)
    (raw / "slices.csv").write_text("study,slice,pe\nB1,5,0\nB2,0,1\n")
    report = run()
    (fault,) = report_faults(report)
    assert "B1: boxes.csv, line 4: the box leaves the slice and was cut" in fault
    images = by_study(raw.parent / "out")
    found = {
        image["slice_index"]: [each["bbox"] for each in image["annotations"]]
        for image in images["B1"]
        if image["annotations"]
    }
    # InstanceNumber 7 of 8 slices numbered from the head is the second from the feet.
    assert found == {1: [[1, 1, 3, 3]], 2: [[2.5, 3, 4, 5]], 4: [[46, 46, 2, 2]]}
    assert [i["pe_present"] for i in images["B1"]] == [None, 1, 1, None, 1, 0, None, None]
    assert images["B2"][0]["labels_known"] == ["slice"]
    assert verify(raw.parent / "out") == []
    run(boxes_complete=True)
    images = by_study(raw.parent / "out")
    assert [i["pe_present"] for i in images["B1"]] == [0, 1, 1, 0, 1, 0, 0, 0]


def test_boxes_as_coco(changed):
    raw, rewrite, run = changed
    rewrite(";nein;", ";;")
    images = [
        {"id": 1, "file_name": "B1/IM003", "study": "B1"},
        {"id": 2, "file_name": "x.png", "slice_index": 0, "study_uid": "B1"},
    ]
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]
    (raw / "boxes.json").write_text(json.dumps({"images": images, "annotations": boxes}))
    assert report_faults(run()) == []
    known = [image["pe_present"] for image in by_study(raw.parent / "out")["B1"]]
    assert known == [0, None, None, None, None, 1, None, None]


def test_coco_of_several_categories_counts_emboli_alone(changed):
    raw, rewrite, run = changed
    rewrite(";nein;", ";;")
    images = [{"id": number, "slice_index": number, "study": "B1"} for number in range(3)]
    boxes = [
        {"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4]},
        {"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 4, 6]]},
    ]
    categories = [{"id": 1, "name": "artefact"}, {"id": 7, "name": "Embolus"}]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (raw / "boxes.json").write_text(json.dumps(content))
    report = run()
    assert report_faults(report) == []
    known = [image["pe_present"] for image in by_study(raw.parent / "out")["B1"]]
    assert known[:3] == [0, 1, 0]
    notes = [note for entry in report["patients"] for note in entry["notes"]]
    assert "study B1: outlines are not read (boxes with one: 1); give a mask" in notes
    run(labels=("artefact", "pe"))
    assert [i["pe_present"] for i in by_study(raw.parent / "out")["B1"]][:3] == [1, 0, 0]
    categories[1]["name"] = "finding"
    (raw / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"by --labels; there are: artefact, finding"):
        run()


@given(
    tenths=st.tuples(*[st.integers(0, 300)] * 2, *[st.integers(1, 180)] * 2),
)
def test_a_box_within_the_slice_is_not_cut(tenths):
    """48 x 48 pixels; numbers with one decimal are not exact in binary."""
    box = tuple(value / 10 for value in tenths)
    found = marks_of([Mark("line 2", index=0, box=box)], study_of(EMPTY), (), False)
    assert found.problems == []
    assert found.boxes[0][0]["bbox"] == pytest.approx(box)


@pytest.mark.parametrize(
    ("image", "box"),
    [
        ({"id": 1, "slice_index": 0}, [1, 2, float("nan"), 4]),
        ({"id": 1, "slice_index": 0}, [1, 2, 3]),
        ({"id": 1, "slice_index": "first"}, None),
    ],
)
def test_coco_that_is_wrong_is_refused(changed, image, box):
    raw, _, run = changed
    boxes = [] if box is None else [{"image_id": 1, "bbox": box}]
    content = {"images": [{**image, "study": "B1"}], "annotations": boxes}
    (raw / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"boxes\.json: no readable COCO file"):
        run()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("study,slice,x\nB1,1,2\n", "has the columns study, slice, x; name the slice"),
        ("slice,pe\n1,0\n", "line 2 names no study, and 7 studies use the file"),
        ("sop,pe\nIM003,0\n", "line 2 names no study, and 7 studies use the file"),
        ("study,slice,pe\nB1,,0\n", "line 2 names no slice"),
        ("study,slice,pe\nB1,1.5,0\n", "line 2 holds a value that is no number or label"),
        ("study,slice,x,y,w,h\nB1,1,1,1,0,3\n", "line 2 has a box without size"),
    ],
)
def test_marks_that_are_wrong_are_refused(changed, text, said):
    raw, _, run = changed
    (raw / "slices.csv").write_text(text)
    with pytest.raises(DataError, match=r"slices\.csv") as error:
        run()
    assert said in str(error.value)


def test_marks_of_nothing_are_told(changed):
    raw, _, run = changed
    (raw / "slices.csv").write_text("study,slice,pe\nB1,80,0\nZ9,1,0\n")
    faults = report_faults(run())
    assert "slices.csv, line 3 (study Z9): no such study or slice here" in faults[0]
    assert "study B1: slices.csv, line 2: no such slice" in faults[1]


def test_the_last_number_of_a_uid_is_no_ending(changed):
    """Files named by UIDs of one root, of which one is in the study and others are not."""
    raw, rewrite, run = changed
    rewrite(";nein;", ";;")
    for first, name in ((10, "B1"), (20, "B2")):
        for path in raw.glob(f"*/{name}/CT/Thorax/IM*"):
            path.rename(path.with_name(f"1.2.9.{first + int(path.name[2:])}"))
    (raw / "boxes.csv").write_text("sop,x,y,w,h\n1.2.9.23,1,2,3,4\n1.2.9.77,1,2,3,4\n")
    assert report_faults(run()) == []
    images = by_study(raw.parent / "out")
    assert not any(image["annotations"] for image in images["B1"])
    assert [bool(image["annotations"]) for image in images["B2"]].index(True) == 5


def test_frames_have_no_instance_number_of_their_own(tmp_path):
    shared = {"PixelSpacing": [0.8, 0.7], "SliceThickness": 2.5}
    frames = [{"ImagePositionPatient": [0, 0, 2.5 * index]} for index in range(4)]
    path = tmp_path / "ct"
    write_enhanced(path, EMPTY[:4].astype(np.int16), frames, shared=shared, InstanceNumber=1)
    found = marks_of([Mark("line 2", instance=1, pe=1)], open_slices([path], path), (), False)
    assert found.pe == {} and found.problems == [
        "line 2: no such slice; correct or remove the lines"
    ]


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "slices.csv"
    for text, pe in (("study,slice,pe\nB1,5,0\n", 0), ("study,slice,pe\nB1,5,yes\n", 1)):
        path.write_text(text)
        assert [mark.pe for mark in read_marks(path)] == [pe]
