import os
import re
import shutil

import numpy as np
import pytest
from dicom_files import write_hu
from raw_sets import (
    BOX_COLUMNS,
    NEGATIVE,
    POSITIVE,
    RSNA_COLUMNS,
    all_images,
    load_splits,
    rsna_row,
    smooth_hu,
    tree,
    write_csv,
    write_jpeg_edition,
    write_rsna_study,
)

from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults
from pe_unified.converters.raw.rsna import Rsna
from pe_unified.converters.raw.rsna_subset import Subset
from pe_unified.converters.verify import verify
from pe_unified.ct.hu import read_slice_png
from pe_unified.errors import DataError

QUIET = RunOptions(quiet=True)


@pytest.fixture
def raw(tmp_path):
    """Three studies, one without embolism; the csv's rows are shuffled among the studies."""
    raw = tmp_path / "raw"
    studies = {"st1": POSITIVE, "st2": NEGATIVE, "st3": POSITIVE[::-1]}
    rows = [
        row
        for k, (study, labels) in enumerate(studies.items())
        for row in write_rsna_study(raw, study, labels, seed=k)
    ]
    np.random.default_rng(0).shuffle(rows)
    write_csv(raw / "train.csv", rows)
    return raw


def rows_of(raw):
    return [line.split(",") for line in (raw / "train.csv").read_text().splitlines()[1:]]


def by_sop(out):
    return {image["sop_uid"]: image for image in all_images(out)}


def test_labels_of_slices_and_exams(raw, tmp_path):
    out = tmp_path / "out"
    report = convert(Rsna(raw), out, QUIET)
    assert report_faults(report) == []
    assert verify(out) == []
    images = by_sop(out)
    assert len(images) == 17
    for study, labels in (("st1", POSITIVE), ("st2", NEGATIVE), ("st3", POSITIVE[::-1])):
        for k, label in enumerate(labels):
            image = images[f"{study}-{k}"]
            assert image["pe_present"] == label
            # Masks and boxes of a positive slice are unknown, those of a negative one are none.
            expected = ["slice"] if label else ["slice", "boxes", "masks"]
            assert image["labels_known"] == expected and image["annotations"] == []
            # The file named first is the highest slice.
            assert image["slice_index"] == len(labels) - 1 - k
            assert image["z_mm"] == -2.5 * k and image["spacing_mm"] == [0.7, 0.7, 2.5]
            assert image["position_mm"] == [-100, -100, -2.5 * k]
            assert image["orientation"] == [1, 0, 0, 0, 1, 0]
            assert image["patient_id"] == image["study_uid"] == study
            assert image["series_uid"] == f"{study}-s"
    exams = {e["study_uid"]: e for part in load_splits(out).values() for e in part["exams"]}
    assert exams["st1"]["rightsided_pe"] == 1 and exams["st1"]["negative_exam_for_pe"] == 0
    assert exams["st2"]["negative_exam_for_pe"] == 1
    assert None not in exams["st1"].values()


def test_patients_with_several_studies_stay_together(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    rows = write_rsna_study(raw, "st1", POSITIVE, PatientID="P7")
    rows += write_rsna_study(raw, "st2", NEGATIVE, PatientID="P7")
    rows += write_rsna_study(raw, "st3", NEGATIVE, PatientID="anonymous")
    rows += write_rsna_study(raw, "st4", NEGATIVE, PatientID="anonymous")
    write_csv(raw / "train.csv", rows)
    report = convert(Rsna(raw), out, QUIET)
    patients = {entry["patient_id"]: entry["slices"] for entry in report["patients"]}
    assert patients == {"P7": 11, "st3": 5, "st4": 5}
    assert verify(out) == []
    own = [image for image in all_images(out) if image["patient_id"] == "P7"]
    assert {image["study_uid"] for image in own} == {"st1", "st2"}
    assert len({image["file_name"] for image in own}) == 11
    assert len({image["split"] for image in own}) == 1


def test_one_identifier_on_all_studies_is_none(tmp_path):
    raw = tmp_path / "raw"
    rows = []
    for k in range(25):
        rows += write_rsna_study(raw, f"st{k}", [0], PatientID="RSNA")
    write_csv(raw / "train.csv", rows)
    assert len(Rsna(raw)) == 25


def write_boxes(raw, rows):
    return write_csv(raw / "boxes.csv", [[str(v) for v in row] for row in rows], BOX_COLUMNS)


def test_several_boxes_per_slice_and_none_dropped(raw, tmp_path):
    boxes = write_boxes(
        raw,
        [
            ["st1", "st1-s", "st1-2", "Left lobar", 3, 4.5, 6, 7],
            ["st1", "st1-s", "st1-2", "Right main", 20, 4, 5, 5],
            ["st3", "st3-s", "st3-0", "Right main", 1, 1, 2, 2],
            ["st1", "st1-s", "st1-2", "Left lobar", 3, 4.5, 6, 7],
        ],
    )
    out = tmp_path / "out"
    report = convert(Rsna(raw, boxes=boxes), out, QUIET)
    assert report_faults(report) == [] and report["totals"]["annotations"] == 4
    assert verify(out) == []
    image = by_sop(out)["st1-2"]
    assert [a["bbox"] for a in image["annotations"]] == [
        [3, 4.5, 6, 7],
        [20, 4, 5, 5],
        [3, 4.5, 6, 7],
    ]
    assert [a["artery"] for a in image["annotations"]][1] == "Right main"
    assert image["annotations"][0]["area"] == 42 and image["annotations"][0]["segmentation"] == []
    assert image["labels_known"] == ["slice", "boxes"]
    assert by_sop(out)["st1-3"]["labels_known"] == ["slice"]


def test_boxes_on_a_slice_labelled_negative(raw, tmp_path):
    """Two readers disagree: the box stays, the label is unknown."""
    boxes = write_boxes(raw, [["st2", "st2-s", "st2-1", "", 3, 4, 6, 7]])
    convert(Rsna(raw, boxes=boxes), tmp_path / "out", QUIET)
    image = by_sop(tmp_path / "out")["st2-1"]
    assert image["pe_present"] is None and image["labels_known"] == ["boxes"]
    assert len(image["annotations"]) == 1
    assert verify(tmp_path / "out") == []


def test_boxes_that_have_no_place_are_reported(raw, tmp_path):
    boxes = write_boxes(
        raw,
        [
            ["st1", "st1-s", "st1-99", "", 3, 4, 6, 7],
            ["st9", "st9-s", "st9-1", "", 3, 4, 6, 7],
            ["st1", "st1-s", "st1-2", "", 3, "x", 6, 7],
            ["st1", "st1-s", "st1-2", "", 3, 4, 0, 7],
        ],
    )
    faults = report_faults(convert(Rsna(raw, boxes=boxes), tmp_path / "out", QUIET))
    text = "\n".join(faults)
    assert "boxes.csv, line 3: a box of study st9" in text
    assert "boxes.csv, line 4: an empty UID, or no box" in text
    assert "boxes.csv, line 5:" in text
    assert "1 boxes lie on slices that the csv does not list: 1 (st1-99)" in text
    assert len(faults) == 4


def test_boxes_that_leave_the_slice_are_kept_and_reported(raw, tmp_path):
    boxes = write_boxes(raw, [["st1", "st1-s", "st1-2", "", 28, -1, 10, 5]])
    report = convert(Rsna(raw, boxes=boxes), tmp_path / "out", QUIET)
    (fault,) = report_faults(report)
    assert "st1-2" in fault and "leaves the slice" in fault
    assert by_sop(tmp_path / "out")["st1-2"]["annotations"][0]["bbox"] == [28, 0, 4, 4]
    assert verify(tmp_path / "out") == []


def test_boxes_outside_the_slice_have_no_place(raw, tmp_path):
    boxes = write_boxes(raw, [["st1", "st1-s", "st1-2", "", 40, 4, 10, 5]])
    report = convert(Rsna(raw, boxes=boxes), tmp_path / "out", QUIET)
    assert "lies outside it" in report_faults(report)[0]
    assert by_sop(tmp_path / "out")["st1-2"]["labels_known"] == ["slice"]


def test_boxed_studies_alone(raw, tmp_path):
    boxes = write_boxes(raw, [["st3", "st3-s", "st3-0", "", 3, 4, 6, 7]])
    report = convert(Rsna(raw, boxes=boxes, boxed_only=True), tmp_path / "out", QUIET)
    assert [entry["patient_id"] for entry in report["patients"]] == ["st3"]
    with pytest.raises(DataError, match="give --boxes"):
        Rsna(raw, boxed_only=True)


def drop_file(raw):
    (raw / "train" / "st1" / "st1-s" / "st1-3.dcm").unlink()


def drop_study(raw):
    shutil.rmtree(raw / "train" / "st1")


def drop_series(raw):
    shutil.rmtree(raw / "train" / "st1" / "st1-s")


def drop_row(raw):
    write_csv(raw / "train.csv", [row for row in rows_of(raw) if row[2] != "st1-3"])


def drop_rows_of_study(raw):
    write_csv(raw / "train.csv", [row for row in rows_of(raw) if row[0] != "st1"])


def spoil_row(raw):
    rows = sorted(rows_of(raw))
    rows[3][3] = "yes"
    write_csv(raw / "train.csv", rows)


def shorten_row(raw):
    rows = sorted(rows_of(raw))
    rows[3] = rows[3][:9]
    write_csv(raw / "train.csv", rows)


def truncate_slice(raw):
    path = raw / "train" / "st1" / "st1-s" / "st1-3.dcm"
    path.write_bytes(path.read_bytes()[:-50])


def truncate_header(raw):
    path = raw / "train" / "st1" / "st1-s" / "st1-3.dcm"
    path.write_bytes(path.read_bytes()[:150])


def other_modality(raw):
    path = raw / "train" / "st1" / "st1-s" / "st1-3.dcm"
    write_hu(path, np.zeros((32, 32)), Modality="MR", PatientID="")


def double_row(raw):
    write_csv(raw / "train.csv", [*rows_of(raw), rsna_row("st1", "st1-3", 0, True)])


def exam_disagrees(raw):
    rows = sorted(rows_of(raw))
    rows[4][RSNA_COLUMNS.index("central_pe")] = "1"
    write_csv(raw / "train.csv", rows)


PROBLEMS = [
    (drop_file, r"st1: study st1: no file for 1 \(st1-3\) of the csv; complete the download", 16),
    (drop_study, "st1 skipped: st1: the csv's study st1 has no folder; complete the download", 11),
    (drop_series, "st1 skipped: .*st1-s: no such series folder; complete the download", 11),
    (drop_row, r"st1: study st1: no row in the csv for 1 \(st1-3\), converted with unknown", 17),
    (drop_rows_of_study, "train/st1: a study without a row in the csv, left out; complete", 11),
    (spoil_row, "train.csv, line 5: an empty UID, or a label that is neither 0 nor 1; correct", 17),
    (shorten_row, "train.csv, line 5: 9 fields instead of 17; correct or remove the row", 17),
    (truncate_slice, r"st1: train/st1/st1-s/st1-3.dcm: the pixels cannot be decoded .*; copy", 16),
    (truncate_header, r"st1: train/st1/st1-s/st1-3.dcm: .*; copy the file again", 16),
    (other_modality, "st1: train/st1/st1-s/st1-3.dcm: modality MR, not CT; remove the file", 16),
    (double_row, "st1: train.csv, line 19: slice st1-3 has 2 rows with different labels", 17),
    (exam_disagrees, "st1: train.csv, line 6: central_pe differs from the study's other rows", 17),
]


@pytest.mark.parametrize(("damage", "message", "slices"), PROBLEMS)
def test_bad_input_is_named_and_the_rest_converted(raw, tmp_path, damage, message, slices):
    damage(raw)
    report = convert(Rsna(raw), tmp_path / "out", QUIET)
    faults = report_faults(report)
    assert any(re.search(f"^{message}", fault) for fault in faults), faults
    assert report["totals"]["slices"] == slices
    assert {entry["patient_id"] for entry in report["patients"]} >= {"st2", "st3"}
    assert verify(tmp_path / "out") == []


def test_a_doubtful_row_is_told_on_every_run(raw, tmp_path):
    convert(Rsna(raw), tmp_path / "out", QUIET)
    double_row(raw)
    for _ in range(2):
        (fault,) = report_faults(convert(Rsna(raw), tmp_path / "out", QUIET))
        assert "slice st1-3 has 2 rows with different labels" in fault


def test_slices_of_two_scans_are_told(raw, tmp_path):
    rows = rows_of(raw)
    path = raw / "train" / "st1" / "st1-s" / "st1-9.dcm"
    elements = dict(StudyInstanceUID="1.9", SeriesInstanceUID="1.9.1", SOPInstanceUID="st1-9")
    beside = dict(PatientID="", ImagePositionPatient=[77, 0, -2.5])
    write_hu(path, np.zeros((32, 32)), **elements, **beside)
    write_csv(raw / "train.csv", [*rows, rsna_row("st1", "st1-9", 0, True)])
    report = convert(Rsna(raw), tmp_path / "out", QUIET)
    (entry,) = [each for each in report["patients"] if each["patient_id"] == "st1"]
    assert "1 slices lie at the height of another one" in entry["notes"]


def test_labels_of_doubtful_rows(raw, tmp_path):
    drop_row(raw)
    convert(Rsna(raw), tmp_path / "a", QUIET)
    image = by_sop(tmp_path / "a")["st1-3"]
    assert image["pe_present"] is None and image["labels_known"] == []
    double_row(raw)
    exam_disagrees(raw)
    convert(Rsna(raw), tmp_path / "b", QUIET)
    exams = [e for part in load_splits(tmp_path / "b").values() for e in part["exams"]]
    assert [e["central_pe"] for e in exams if e["study_uid"] == "st1"] == [None]


def test_mended_files_are_converted_on_the_next_run(raw, tmp_path):
    whole = (raw / "train" / "st1" / "st1-s" / "st1-3.dcm").read_bytes()
    truncate_slice(raw)
    convert(Rsna(raw), tmp_path / "out", QUIET)
    (raw / "train" / "st1" / "st1-s" / "st1-3.dcm").write_bytes(whole)
    assert report_faults(convert(Rsna(raw), tmp_path / "out", QUIET)) == []
    convert(Rsna(raw), tmp_path / "fresh", QUIET)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_changed_labels_are_noticed(raw, tmp_path):
    convert(Rsna(raw), tmp_path / "out", QUIET)
    rows = rows_of(raw)
    for row in rows:
        if row[2] == "st1-0":
            row[3] = "1"
    write_csv(raw / "train.csv", rows)
    convert(Rsna(raw), tmp_path / "out", QUIET)
    assert by_sop(tmp_path / "out")["st1-0"]["pe_present"] == 1


def test_wrong_columns_are_refused(raw, tmp_path):
    text = (raw / "train.csv").read_text().replace("pe_present_on_image", "label")
    (raw / "train.csv").write_text(text)
    with pytest.raises(DataError, match=r"train\.csv: lacks the columns pe_present_on_image"):
        Rsna(raw)
    (raw / "train.csv").unlink()
    with pytest.raises(DataError, match=r"train\.csv: cannot be opened"):
        Rsna(raw)


def test_a_second_series_is_left_out(raw, tmp_path):
    write_hu(raw / "train" / "st1" / "other" / "x.dcm", np.zeros((32, 32)), PatientID="")
    report = convert(Rsna(raw), tmp_path / "out", QUIET)
    assert report_faults(report) == [] and report["totals"]["slices"] == 17
    assert "series without a row" in report["patients"][0]["notes"][0]


def test_a_balanced_part(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    rows = []
    for k in range(12):
        labels = [int(k % 2 == 0 and 3 <= j < 8) for j in range(14)]
        rows += write_rsna_study(raw, f"st{k}", labels, size=16)
    write_csv(raw / "train.csv", rows)
    subset = Subset(positives=12, negatives=20, per_study=4, seed=1)
    report = convert(Rsna(raw, subset=subset), out, QUIET)
    assert report_faults(report) == [] and verify(out) == []
    images = all_images(out)
    assert sum(image["pe_present"] for image in images) == 12 and len(images) == 32
    # Numbers of slices are those within the whole study, whatever the choice.
    convert(Rsna(raw), tmp_path / "whole", QUIET)
    whole = by_sop(tmp_path / "whole")
    for image in images:
        twin = whole[image["sop_uid"]]
        for key in ("slice_index", "z_mm", "file_name", "spacing_mm"):
            assert image[key] == twin[key]
        pixels = [read_slice_png(root / image["file_name"]) for root in (out, tmp_path / "whole")]
        np.testing.assert_array_equal(*pixels)
    # Another choice in the same folder leaves nothing of the first behind.
    convert(Rsna(raw, subset=Subset(positives=2, negatives=2)), out, QUIET)
    assert len(all_images(out)) == 4 and verify(out) == []
    assert len(list(out.glob("images/*/*.png"))) == 4


def test_a_file_put_in_place_of_another_is_converted(raw, tmp_path):
    out = tmp_path / "out"
    convert(Rsna(raw), out, QUIET)
    before = {path: path.stat().st_mtime_ns for path in out.glob("images/*/*.png")}
    # Out of an archive: as large as the one it replaces, and older than the others.
    slice_0 = raw / "train" / "st1" / "st1-s" / "st1-0.dcm"
    pixels = np.full((32, 32), 77 + 1024, dtype=np.uint16).tobytes()
    slice_0.write_bytes(slice_0.read_bytes()[: -len(pixels)] + pixels)
    os.utime(slice_0, (1e9, 1e9))
    convert(Rsna(raw), out, QUIET)
    image = by_sop(out)["st1-0"]
    assert (read_slice_png(out / image["file_name"]) == 77).all()
    redone = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert {path.parent.name for path in redone} == {"st1"} and len(redone) == 6
    assert verify(out) == []


def test_edition_asked_for(raw, tmp_path):
    with pytest.raises(DataError, match="no studies of the edition jpeg256"):
        Rsna(raw, edition="jpeg256")
    rows = rows_of(raw)
    write_jpeg_edition(raw, smooth_hu)
    write_csv(raw / "train.csv", rows)
    assert Rsna(raw).reader.edition == "dicom"
    assert Rsna(raw, edition="jpeg256").reader.edition == "jpeg256"
