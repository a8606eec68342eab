"""What the JSON files of a converted set must hold, and how each fault of theirs is told."""

import json
import re

import numpy as np
import pytest
from jsonschema import Draft7Validator


def test_whole_sets_are_valid_by_the_schema_as_others_read_it(converted, repository):
    schema = repository / "pe_unified/converters/contract/annotations.schema.json"
    validator = Draft7Validator(json.loads(schema.read_text("utf-8")))
    for path in converted.glob("*/annotations/*.json"):
        validator.validate(json.loads(path.read_text("utf-8")))


def positive(content):
    """A slice with an embolus, and its annotations."""
    ids = [annotation["image_id"] for annotation in content["annotations"]]
    image = next(image for image in content["images"] if image["id"] == ids[0])
    return image, [a for a in content["annotations"] if a["image_id"] == ids[0]]


def negative(content):
    return next(image for image in content["images"] if image["pe_present"] == 0)


def change_of(where, **fields):
    """A change of a positive or negative slice, an annotation, an exam or the info."""

    def change(content):
        image, annotations = positive(content) if content["annotations"] else (None, [None])
        target = {
            "positive": image,
            "negative": negative(content),
            "annotation": annotations[0],
            "exam": content["exams"][0],
            "info": content["info"],
        }[where]
        target.update(fields)

    return change


def drop_of(where, key):
    def change(content):
        target = {"image": content["images"][0], "info": content["info"]}[where]
        del target[key]

    return change


def remove_annotation(content):
    content["annotations"].pop()


def remove_image(content):
    gone = negative(content)
    content["images"].remove(gone)


def remove_patient(content):
    patient = content["images"][0]["patient_id"]
    gone = {i["id"] for i in content["images"] if i["patient_id"] == patient}
    content["images"] = [i for i in content["images"] if i["id"] not in gone]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] not in gone]
    content["exams"] = [e for e in content["exams"] if e["patient_id"] != patient]


def shift_box(content):
    positive(content)[1][0]["bbox"][0] -= 1


def widen_box(content):
    positive(content)[1][0]["bbox"][2] = 999


def join_masks(content):
    """Two components in one annotation."""
    from pe_unified.converters.contract.schema import decode_mask, encode_mask

    annotation = content["annotations"][0]
    mask = decode_mask(annotation["segmentation"])
    mask[0, 0] = 1
    annotation["segmentation"] = encode_mask(mask)
    annotation["area"] += 1
    annotation["bbox"] = [0, 0, *(int(v) for v in np.argwhere(mask).max(0)[::-1] + 1)]


def doubled(key):
    def change(content):
        content[key].append(dict(content[key][0]))

    return change


def same_id(content):
    content["images"][1]["id"] = content["images"][0]["id"]


def swap_order(content):
    first, second = content["images"][:2]
    first["slice_index"], second["slice_index"] = second["slice_index"], first["slice_index"]


def one_height(content):
    for image in content["images"]:
        image["z_mm"] = 7.5


def same_sop(content):
    content["images"][1]["sop_uid"] = content["images"][0]["sop_uid"]


def lung_box_differs(content):
    content["images"][0]["lung_box"] = [1, 1, 10, 10]


def lung_box_leaves(content):
    for image in content["images"]:
        image["lung_box"] = [1, 1, 100, 10]


def orphan(content):
    content["annotations"][0]["image_id"] = 9999


def counts_as_bytes(content):
    content["annotations"][0]["segmentation"]["counts"] = [1, 2, 3]


def spoil_counts(content):
    content["annotations"][0]["segmentation"]["counts"] = "0"


def lose_exam(content):
    content["exams"].pop()


FAULTS = [
    (remove_annotation, "slices, positive slices and annotations in the splits"),
    (remove_image, "on disk, but in no split"),
    (remove_patient, r"PAT.*: \(0, 0, 0\) slices"),
    (shift_box, "box .*, the mask's is"),
    (widen_box, "leaves the slice of 48 x 48"),
    (join_masks, "the mask has 2 components, not one"),
    (doubled("images"), "image id .* occurs 2 times"),
    (doubled("annotations"), "annotation id .* occurs 2 times"),
    (doubled("exams"), "exam .* occurs 2 times"),
    (same_id, "image id .* occurs 2 times"),
    (swap_order, "slice_index does not run from feet to head"),
    (one_height, r"all slices lie at z_mm 7\.5"),
    (same_sop, "series and SOP UID .* occurs 2 times"),
    (lung_box_differs, "slices differ in lung_box"),
    (lung_box_leaves, r"lung_box \[1, 1, 100, 10\] leaves the slice"),
    (orphan, "no such image 9999"),
    (counts_as_bytes, "the counts of the mask are not text"),
    (spoil_counts, "the mask"),
    (lose_exam, "none for study"),
    (change_of("annotation", area=3), "area 3, the mask has"),
    (change_of("annotation", bbox=None), "bbox is None, not x, y, width, height"),
    (change_of("annotation", bbox=[1, 2]), r"bbox is \[1, 2\], not"),
    (change_of("annotation", bbox=["a", 2, 3, 4]), r"bbox is \['a', 2, 3, 4\], not"),
    (change_of("annotation", area="3"), "area is '3', not a number of pixels"),
    (change_of("annotation", iscrowd=1), "iscrowd is 1, not 0"),
    (change_of("annotation", category_id=2), "category_id is 2, not 1"),
    (change_of("positive", pe_present=0), "pe_present is 0, yet there are"),
    (change_of("negative", pe_present=1), "boxes are known, yet there is no annotation"),
    (change_of("negative", pe_present=None), "yet labels_known is"),
    (change_of("negative", labels_known=["slice"]), "of a negative slice must list"),
    (change_of("positive", labels_known=["slice"]), "although masks are not in labels_known"),
    (change_of("positive", labels_known=["pixels"]), r"labels_known is \['pixels'\], not"),
    (change_of("positive", width=50), "48 x 48 pixels, listed as 48 x 50"),
    (change_of("positive", spacing_mm=[1, 0, 1]), "not three positive numbers or nulls"),
    (change_of("positive", spacing_mm=["a", 1, 1]), "not three positive numbers or nulls"),
    (change_of("positive", lung_box=[1, 2]), r"lung_box is \[1, 2\]"),
    (
        change_of("positive", labels_known=[["slice"]]),
        "labels_known is .*, not a list of slice, boxes and masks",
    ),
    (
        change_of("positive", z_mm="low"),
        r"train\.json, image \d+: z_mm is 'low', not a height in mm or null",
    ),
    (change_of("positive", group=7), "group is 7"),
    (change_of("positive", group="g"), "patient PAT.*: slices differ in group"),
    (change_of("positive", patient_id="PAT009"), "belongs to several patients"),
    (change_of("positive", file_name="images/none.png"), "listed, but no such file"),
    (change_of("exam", negative_exam_for_pe=1), "negative, yet slices have an embolus"),
    (change_of("exam", central_pe=2), "central_pe is 2, not 0, 1 or null"),
    (change_of("exam", patient_id="PAT009"), "of patient PAT009, its slices are PAT"),
    (change_of("exam", patient_id=None), "exam .*: patient_id is None, not a text"),
    (
        lambda content: content["images"].append("x"),
        r"train\.json, images\[\d+\]: is 'x', not an object",
    ),
    (lambda content: content["annotations"].append(3), r"annotations\[\d+\]: is 3, not an object"),
    (lambda content: content["exams"].append([]), r"exams\[\d+\]: is \[\], not an object"),
    (
        lambda content: content.update(info=[]),
        r"train\.json: info is \[\], not an object; convert again",
    ),
    (lambda content: content.update(images={}), r"images is {}, not a list; convert again"),
    (change_of("exam", study_uid=[]), r"study_uid is \[\], not a text"),
    (change_of("annotation", image_id=[1]), r"image_id is \[1\], not a whole number"),
    (change_of("positive", pe_present=True), "pe_present is True, not 0, 1 or null"),
    (change_of("positive", pe_present=2), "pe_present is 2, not 0, 1 or null"),
    (change_of("positive", z_mm=float("nan")), "cannot be read .NaN is no number"),
    (lambda content: content["categories"].pop(), r"categories is \[\], not embolus alone"),
    (change_of("info", hu_offset=1000), "hu_offset is 1000, not 1024"),
    (drop_of("info", "licence"), "info lacks licence"),
    (drop_of("image", "sop_uid"), r"image \d+: lacks sop_uid"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_every_fault_is_found(damaged, change, message):
    faults = damaged(change)
    assert any(re.search(message, fault) for fault in faults), faults


def test_boxes_have_the_area_of_their_box(damaged, converted):
    parts = ("train", "val", "test")
    texts = {
        p: json.loads((converted / "rsna/annotations" / f"{p}.json").read_text()) for p in parts
    }
    part = next(p for p in parts if texts[p]["annotations"])
    faults = damaged(change_of("annotation", area=3), "rsna", part)
    assert any("area 3 of the box" in fault for fault in faults)


def test_unreadable_json(damaged):
    def spoil(out):
        (out / "annotations" / "val.json").write_text('{"images": [')

    assert any("val.json: cannot be read" in fault for fault in damaged(lambda content: spoil))

    def empty(out):
        (out / "annotations" / "val.json").write_text("{}")

    assert any("val.json: lacks info, images" in fault for fault in damaged(lambda content: empty))
