"""Boxes and labels of slices in a hospital's folder."""

import json

import pytest
from own_folder import by_study, uid_of

from pe_unified.converters.pipeline.run import report_faults
from pe_unified.converters.verify import verify
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("study,slice,x\nB1,1,2\n", "has the columns study, slice, x; name the slice"),
        ("slice,pe\n1,0\n", "line 2 names no study, and 7 studies use the file"),
        ("study,slice,pe\nB1,,0\n", "line 2 names no slice"),
        ("study,slice,pe\nB1,1.5,0\n", "line 2 holds what is no number or label"),
        ("study,slice,x,y,w,h\nB1,1,1,1,0,3\n", "line 2 has a box of no size"),
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
