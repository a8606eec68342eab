import json

import cv2
import numpy as np
import pytest
from jsonschema import Draft7Validator
from raw_sets import BOX_COLUMNS, write_csv, write_fumpe_patient, write_rsna_study

from pe_unified.converters.pipeline.run import RunOptions, convert
from pe_unified.converters.raw.fumpe import Fumpe
from pe_unified.converters.raw.rsna import Rsna
from pe_unified.converters.verify import verify

OPTIONS = RunOptions(quiet=True, folds=2, split=(0.5, 0.25, 0.25))


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Two converted sets, to be copied before they are damaged."""
    root = tmp_path_factory.mktemp("verify")
    for k in range(1, 5):
        write_fumpe_patient(root / "raw", f"PAT{k:03d}", count=12, empty=k == 4)
    convert(Fumpe(root / "raw"), root / "fumpe", OPTIONS)
    rows = [
        row
        for k in range(4)
        for row in write_rsna_study(root / "rsna_raw", f"st{k}", [k % 2, 0, 1 - k % 2])
    ]
    write_csv(root / "rsna_raw" / "train.csv", rows)
    box = [["st1", "st1-s", "st1-0", "", "3", "4", "5", "6"]]
    boxes = write_csv(root / "boxes.csv", box, BOX_COLUMNS)
    convert(Rsna(root / "rsna_raw", boxes=boxes), root / "rsna", OPTIONS)
    return root


@pytest.fixture
def damaged(converted, tmp_path):
    """Copies a set and lets a change be made to one of its files."""
    import shutil

    def damage(change, name="fumpe", part="train"):
        out = tmp_path / name
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(converted / name, out)
        path = out / "annotations" / f"{part}.json"
        content = json.loads(path.read_text())
        result = change(content)
        path.write_text(json.dumps(content))
        if callable(result):
            result(out)
        return verify(out)

    return damage


def test_a_small_mask_on_lung_is_a_fault(tmp_path):
    mask = np.zeros((48, 48, 8), np.uint8)
    mask[20:23, 30:33, 2] = 1
    write_fumpe_patient(tmp_path / "raw", "PAT001", mask=mask)
    convert(Fumpe(tmp_path / "raw"), tmp_path / "out", RunOptions(quiet=True))
    assert verify(tmp_path / "out") == []
    path = tmp_path / "out" / "images" / "PAT001" / "0002.png"
    cv2.imwrite(str(path), np.full((48, 48), 1024 - 741, np.uint16))
    (fault,) = verify(tmp_path / "out")
    assert "PAT001: the HU check fails: mean -741 HU under the masks" in fault


def test_whole_sets_have_no_fault(converted):
    assert verify(converted / "fumpe") == []
    assert verify(converted / "fumpe", workers=2) == []
    assert verify(converted / "rsna") == []


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
    (counts_as_bytes, "the counts of the mask are no text"),
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
    (change_of("negative", labels_known=["slice"]), "a negative slice knows its boxes"),
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
    import re

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


def on_disk(change):
    """A damage of files beside the JSON."""
    return lambda content: change


def test_pixels_are_looked_at(damaged):
    def eight_bit(out):
        path = out / "images" / "PAT001" / "0003.png"
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.uint8))

    def cut(out):
        path = out / "images" / "PAT002" / "0003.png"
        path.write_bytes(path.read_bytes()[:40])

    def lost(out):
        (out / "images" / "PAT001" / "0004.png").unlink()

    def extra(out):
        (out / "images" / "PAT001" / "extra.png").write_bytes(b"")

    def shifted(out):
        """The masks of one patient on slices that run the other way."""
        files = sorted((out / "images" / "PAT001").iterdir())
        contents = [path.read_bytes() for path in files]
        for path, content in zip(files, reversed(contents), strict=True):
            path.write_bytes(content)

    def no_report(out):
        (out / "conversion_report.json").unlink()

    def empty_report(out):
        (out / "conversion_report.json").write_text("{}")
        (out / "images" / "PAT001" / "0004.png").unlink()

    def odd_report(out):
        (out / "conversion_report.json").write_text('{"patients": [{"patient_id": "PAT001"}]}')

    def no_test(out):
        (out / "annotations" / "test.json").unlink()

    for change, message in (
        (eight_bit, "images/PAT001/0003.png: .* not 16-bit grayscale"),
        (cut, "images/PAT002/0003.png: .*cannot be decoded"),
        (lost, "images/PAT001/0004.png: listed, but no such file"),
        (extra, "images/PAT001/extra.png: on disk, but in no split"),
        (shifted, "PAT001: the HU check fails"),
        (no_report, r"conversion_report\.json: cannot be read"),
        (empty_report, r"conversion_report\.json: is no list of patients"),
        (empty_report, "images/PAT001/0004.png: listed, but no such file"),
        (odd_report, r"conversion_report\.json: is no list of patients"),
        (no_test, r"annotations/test\.json is missing"),
    ):
        import re

        faults = damaged(on_disk(change))
        assert any(re.search(message, fault) for fault in faults), (change.__name__, faults)


def test_patients_in_two_splits(damaged, converted):
    train = json.loads((converted / "fumpe/annotations/train.json").read_text())

    def leak(content):
        patient = train["images"][0]["patient_id"]
        content["images"] += [i for i in train["images"] if i["patient_id"] == patient]
        content["exams"] += [e for e in train["exams"] if e["patient_id"] == patient]

    faults = damaged(leak, part="test")
    assert any(fault.startswith("train and test share 1 of patient_id") for fault in faults)
    assert any("share 12 image ids" in fault for fault in faults)
    for key in ("study_uid", "sop_uid"):
        assert any(f"of {key}: " in fault and "train and test" in fault for fault in faults)


def test_a_group_in_two_splits_or_on_both_sides_of_a_fold(damaged, converted):
    def grouped(out):
        for path in (out / "annotations").glob("*.json"):
            content = json.loads(path.read_text())
            for image in content["images"]:
                image["group"] = "g"
            path.write_text(json.dumps(content))

    faults = damaged(on_disk(grouped))
    for names in ("train and test", "train and val", "fold0_train and fold0_val"):
        assert f"{names} share 1 of group: g" in faults
    assert "patient PAT001: not of group None in the splits" in faults


def test_folds_that_leak_or_lose(damaged, converted):
    other = json.loads((converted / "fumpe/annotations/fold0_train.json").read_text())

    def leak(content):
        content["images"] += other["images"]

    assert any("fold0_train and fold0_val share" in f for f in damaged(leak, part="fold0_val"))

    def lose(content):
        for key in ("images", "annotations", "exams"):
            content[key] = []

    faults = damaged(lose, part="fold0_val")
    assert any("fold0: train and val are not the patients" in fault for fault in faults)
    assert any("validated exactly once" in fault for fault in faults)


def test_unreadable_json(damaged):
    def spoil(out):
        (out / "annotations" / "val.json").write_text('{"images": [')

    assert any("val.json: cannot be read" in fault for fault in damaged(on_disk(spoil)))

    def empty(out):
        (out / "annotations" / "val.json").write_text("{}")

    assert any("val.json: lacks info, images" in fault for fault in damaged(on_disk(empty)))
