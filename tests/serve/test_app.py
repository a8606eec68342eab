"""What the server answers to the pages of the reader's screen."""

import errno
import json
import os
import shutil
import zlib
from contextlib import nullcontext
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from dicom_files import SERIES, write_hu
from review_reports import write_report
from serving import OWN, ask, serving

from pe_unified.ct.opening import open_study
from pe_unified.errors import DataError
from pe_unified.reports.analysis import AnalysisOptions, analyse_study
from pe_unified.reports.report import is_listed
from pe_unified.review.sources import Studies
from pe_unified.review.store import ReviewStore
from pe_unified.serve import images as images_module
from pe_unified.serve.images import ImageCache
from pe_unified.serve.worklist import Worklist


def decide(served, reader="Ada", seen=0, **decision):
    told = ask(served.url, served.study).json
    body = {"reader": reader, "seen": seen, "model": told["model"]["sha256"], **decision}
    content = json.dumps(body)
    return ask(served.url, f"{served.study}/decisions", "POST", content, **OWN)


def test_a_row_says_what_the_report_says(asked_only, report):
    (row,) = ask(asked_only.url, "/api/worklist").json["studies"]
    found = report[1]
    scores = (found["exam"]["probability"], found["exam"]["lesion_score"])
    assert row["score"] == max(score for score in scores if score is not None)
    assert row["lesions"] == sum(is_listed(lesion) for lesion in found["lesions"])
    assert row["lesions"] + row["candidates"] == len(found["lesions"])
    assert row["state"] == "unread" and row["slices"] == 16


def test_an_unchanged_list_is_not_sent_again(served, reports):
    first = ask(served.url, "/api/worklist")
    tag = first.headers["etag"]
    assert ask(served.url, "/api/worklist", If_None_Match=tag).status == 304
    assert decide(served, kind="comment", value={"text": "seen"}).status == 200
    assert ask(served.url, "/api/worklist", If_None_Match=tag).status == 304
    assert decide(served, kind="done").status == 200
    again = ask(served.url, "/api/worklist", If_None_Match=tag)
    assert again.status == 200 and again.json["studies"][0]["state"] == "done"


def test_reports_that_are_gone_are_told_in_words(served, reports, monkeypatch):
    """Without the names of folders: the disk may come back, pages stay open meanwhile."""
    monkeypatch.setattr(ReviewStore, "reports", lambda self: {})
    answer = ask(served.url, served.study)
    assert (answer.status, answer.json) == (422, {"error": "this study: there is no report of it"})
    reports.rename(reports.with_name("away"))
    said = {"/api/worklist": "decisions cannot be kept here", served.study: "no such folder"}
    for path, words in said.items():
        answer = ask(served.url, path)
        assert answer.status == 422 and answer.json["error"].startswith(words)
        assert str(reports.parent) not in answer.json["error"]


def test_new_studies_appear_and_failures_are_told(served, reports):
    path = reports / "PAT001" / "report.json"
    other = json.loads(path.read_text())
    other["input"]["study_uid"] = "1.2.3"
    (reports / "new").mkdir()
    (reports / "new" / "report.json").write_text(json.dumps(other))
    shutil.copytree(reports / "new", reports / "new" / ".part-1")  # is being written
    (reports / "summary.csv").write_text("study,status,reason\nMeier_Anna,failed,no slices\n")
    told = ask(served.url, "/api/worklist").json
    assert len(told["studies"]) == 2
    assert told["failures"] == [{"name": "", "reason": ""}]


def test_slices_are_those_of_the_study(asked_only, folder):
    got = ask(asked_only.url, f"{asked_only.study}/slices/5/3")
    hu = np.frombuffer(got.body, "<i2").reshape(3, 64, 64)
    with open_study(folder) as study:
        assert np.array_equal(hu, np.stack([study.slice_hu(k) for k in (5, 6, 7)]))
        towards = ["L", "P", "H"]
        place = ask(asked_only.url, f"{asked_only.study}/images").json
        assert place["shape"] == list(study.shape) and place["towards"] == towards
    for wrong in ("15/2", "0/33", "99/1"):
        assert ask(asked_only.url, f"{asked_only.study}/slices/{wrong}").status == 404


def test_the_mask_is_that_of_the_report(asked_only, report):
    runs = ask(asked_only.url, f"{asked_only.study}/mask").json
    stored = np.asarray(nibabel.load(report[0] / "mask.nii.gz").dataobj).T  # slices, rows, cols
    mask = np.zeros_like(stored)
    for index, told in runs.items():
        for start, length, value in np.reshape(told, (-1, 3)):
            mask[int(index)].ravel()[start : start + length] = value
    assert mask.any() and np.array_equal(mask, stored)
    counts = {str(each["index"]): each["embolus_pixels"] for each in report[1]["slices"]}
    assert {index: int((mask[int(index)] > 0).sum()) for index in runs} == {
        index: count for index, count in counts.items() if count
    }


def test_a_decision_is_kept_and_taken_back(served, reports):
    kept = decide(served, kind="reject", lesion=1)
    assert kept.status == 200 and [each["kind"] for each in kept.json["decisions"]] == ["reject"]
    (stored,) = ReviewStore(reports).history(_study(reports))
    assert (stored.reader, stored.kind, stored.lesion) == ("Ada", "reject", 1)
    assert kept.json["undoable"] == [stored.number]
    undone = decide(served, kind="undo", value={"of": stored.number}, seen=kept.json["newest"])
    assert (
        undone.json["decisions"] == [] and len(ReviewStore(reports).history(_study(reports))) == 2
    )


def test_decisions_on_the_report_of_another_model_are_not_undone(served, reports):
    assert decide(served, kind="reject", lesion=1).json["undoable"] == [1]
    path = reports / "PAT001" / "report.json"
    report = json.loads(path.read_text())
    report["model"]["sha256"] = "0" * 64
    path.write_text(json.dumps(report))
    told = ask(served.url, f"{served.study}?reader=Ada").json
    assert told["decisions"] == told["undoable"] == []


def test_a_redrawn_mask_comes_back_as_it_was_drawn(served, reports):
    runs = {"3": [70, 5, 1, 134, 4, 1], "4": [4095, 1, 1]}
    kept = decide(served, kind="redraw", lesion=1, runs=runs)
    assert kept.status == 200
    number = kept.json["number"]
    assert ask(served.url, f"{served.study}/masks/{number}").json == runs
    name = kept.json["decisions"][0]["value"]["mask"]
    mask = ReviewStore(reports).load_mask(_study(reports), name)
    assert np.flatnonzero(mask[3]).tolist() == [*range(70, 75), *range(134, 138)]
    assert np.argwhere(mask[4]).tolist() == [[63, 63]] and mask.sum() == 10
    added = decide(served, kind="add", value={"box": [1, 2, 3, 4], "slice": 5}, seen=number)
    assert added.status == 200
    assert ask(served.url, f"{served.study}/masks/{added.json['number']}").status == 404


def test_who_decides_unseen_is_told(served):
    first = decide(served, kind="accept", lesion=1)
    late = decide(served, reader="Bela", kind="reject", lesion=1, seen=0)
    assert late.status == 409 and "Ada has decided on lesion 1" in late.json["error"]
    assert decide(served, reader="Bela", kind="reject", lesion=2, seen=0).status == 200
    seen = decide(served, reader="Bela", kind="reject", lesion=1, seen=first.json["number"])
    assert seen.status == 200
    told = ask(served.url, f"{served.study}?reader=Ada").json
    assert [each["lesion"] for each in told["others"]["Bela"]] == [2, 1]


def test_blind_readers_hear_nothing_of_each_other(reports, folder):
    with serving(reports, studies=(folder.parent,), blind=True) as url:
        (row,) = ask(url, "/api/worklist").json["studies"]
        served = SimpleNamespace(url=url, study=f"/api/studies/{row['key']}")
        assert decide(served, kind="done").status == 200
        assert decide(served, reader="Bela", kind="accept", lesion=1, seen=0).status == 200
        assert ask(url, f"{served.study}?reader=Bela").json["others"] == {}
        states = [
            ask(url, f"/api/worklist?reader={reader}").json["studies"][0]["state"]
            for reader in ("Ada", "Bela", "Cleo")
        ]
        assert states == ["done", "in work", "unread"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "accept", "lesion": 999},
        {"kind": "explode"},
        {"kind": "accept", "lesion": "1"},
        {"kind": "redraw", "lesion": 1, "runs": {"16": [0, 1, 1]}},
        {"kind": "redraw", "lesion": 1, "runs": {"0": [4090, 10, 1]}},
        {"kind": "redraw", "lesion": 1, "runs": {"0": [-1, 2, 1]}},
        {"kind": "redraw", "lesion": 1, "runs": {"../0": [0, 2, 1]}},
        {"kind": "redraw", "lesion": 1, "runs": [1]},
        {"kind": "redraw", "lesion": 1, "value": {"mask": "../../report.json"}},
        {"kind": "comment", "value": {"text": "x" * 5000}},
        {"kind": "comment", "value": "text"},
        {"kind": "add", "value": {"box": [1, 1, 2, 2], "slice": float("inf")}},
        {"kind": "accept", "lesion": 1, "reader": " "},
        {"kind": "accept", "lesion": 1, "seen": None},
        {"kind": "accept", "lesion": 1, "model": "0" * 64},
    ],
)
def test_what_is_no_decision_is_refused_and_not_kept(asked_only, wrong):
    answer = decide(asked_only, **wrong)
    assert answer.status in (400, 409, 422) and answer.json["error"]
    assert ask(asked_only.url, asked_only.study).json["newest"] == 0


def test_no_name_leaves_unless_asked(report, folder, tmp_path):
    """Neither a folder's name nor the patient's, whatever the page asks."""
    root = tmp_path / "reports"
    shutil.copytree(report[0], root / "Meier_Anna")
    texts = {}
    for shows in (False, True):
        with serving(root, studies=(folder.parent,), show_names=shows) as url:
            (row,) = ask(url, "/api/worklist").json["studies"]
            path = f"/api/studies/{row['key']}"
            asked = ["/api/worklist", path, f"{path}/images", f"{path}/nothing"]
            texts[shows] = b"".join(ask(url, each).body for each in asked)
    hidden = (b"Meier", b"PAT0", str(tmp_path).encode(), report[1]["input"]["study_uid"].encode())
    assert not any(word in texts[False] for word in hidden)
    assert b"Meier_Anna" in texts[True] and b"PatientID" in texts[True]
    # Notes on the choice of the series name series by their UIDs.
    path = root / "Meier_Anna" / "report.json"
    told = json.loads(path.read_text())
    told["input"]["notes"] = ["series 1.2.840.99.4#2, of 3: 40 axial slices of 64 x 64; 1.25 mm"]
    path.write_text(json.dumps(told))
    for shows, name in ((False, "(UID)"), (True, "1.2.840.99.4#2")):
        with serving(root, show_names=shows) as url:
            (row,) = ask(url, "/api/worklist").json["studies"]
            (note,) = ask(url, f"/api/studies/{row['key']}").json["input"]["notes"]
        assert note == f"series {name}, of 3: 40 axial slices of 64 x 64; 1.25 mm"
    # A damaged file takes the name away, not the row.
    for content in (b"", b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0\377", b"x" * 500):
        (root / "Meier_Anna" / "findings.sr.dcm").write_bytes(content)
        with serving(root, show_names=True) as url:
            assert ask(url, "/api/worklist").json["studies"][0]["patient"] == {}


def test_images_that_are_not_the_reports_are_refused(served, reports, folder, tmp_path):
    path = reports / "PAT001" / "report.json"
    report = json.loads(path.read_text())
    report["slices"][3]["sop_uid"] += ".1"
    path.write_text(json.dumps(report))
    answer = ask(served.url, f"{served.study}/slices/0/1")
    assert answer.status == 422
    assert "no study in --studies has the slices" in answer.json["error"]
    assert "PAT001" not in answer.json["error"], "the name of a folder"


def found_in(entry, *folders):
    with Studies(folders).opened(entry.found) as (study, source):
        return study, source


def test_a_study_is_found_wherever_it_lies(reports, folder, tmp_path):
    """By its name, by its files under another name, and by its UIDs where it was copied."""
    (entry,) = Worklist(reports).entries().values()
    with pytest.raises(DataError, match="no folder of studies"):
        found_in(entry)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no study in --studies"):
        found_in(entry, tmp_path / "empty")
    study, source = found_in(entry, tmp_path / "empty", folder.parent)
    assert source.path == folder and study.shape[0] == 16
    assert source.series == entry.found.read()["input"]["series_uid"]
    (reports / "PAT001").rename(reports / "elsewhere")
    (entry,) = Worklist(reports).entries().values()
    assert found_in(entry, folder.parent)[1].path == folder
    shutil.copytree(folder, tmp_path / "copies" / "x", copy_function=shutil.copyfile)
    assert found_in(entry, tmp_path / "copies")[1].path.name == "x"


def test_what_has_the_name_and_is_another_study_is_passed_over(reports, folder, tmp_path):
    other = tmp_path / "others" / "PAT001"
    shutil.copytree(folder, other)
    min(other.iterdir()).unlink()
    (entry,) = Worklist(reports).entries().values()
    study, source = found_in(entry, other.parent, folder.parent)
    assert len(study) == 16 and source.path == folder


def test_of_two_volumes_of_one_name_the_unchanged_file_is_taken(predictor, tmp_path):
    """Volumes have no UIDs, and those of two patients may be of one size."""
    rng = np.random.default_rng(0)
    for number, site in enumerate(("first", "second")):
        hu = rng.integers(-1000, 400, (64, 64, 12)).astype(np.int16)
        (tmp_path / site).mkdir()
        image = nibabel.Nifti1Image(hu, np.diag([-0.7, -0.7, 2.0, 1.0]))
        nibabel.save(image, tmp_path / site / "case.nii.gz")
        os.utime(tmp_path / site / "case.nii.gz", (number, number))
    asked = tmp_path / "second" / "case.nii.gz"
    analyse_study(asked, tmp_path / "reports" / "case.nii.gz", predictor)
    (entry,) = Worklist(tmp_path / "reports").entries().values()
    assert found_in(entry, tmp_path / "first", tmp_path / "second")[1].path == asked
    asked.touch()  # nothing tells them apart any more but the order of --studies
    assert found_in(entry, tmp_path / "second", tmp_path / "first")[1].path == asked


@pytest.mark.parametrize("series", [f"{SERIES}#1", "1.9"])
@pytest.mark.parametrize("key", [None, "k" * 16])
def test_the_series_that_was_asked_for_is_found_again(predictor, tmp_path, series, key):
    """One phase of a series, or another series than would be taken."""
    for number in (1, 2):
        hu = np.full((64, 64), 100 * number, np.int16)
        for k in range(8):
            slice_ = {"z": 5.0 * k, "AcquisitionNumber": number, "number": 100 * number + k}
            write_hu(tmp_path / "case" / f"{number}-{k}", hu, **slice_)
            write_hu(tmp_path / "case" / f"b{number}-{k}", hu, **slice_, SeriesInstanceUID="1.9")
    asked = AnalysisOptions(series_uid=series, pseudonym_key=key)
    analyse_study(tmp_path / "case", tmp_path / "reports" / "case", predictor, asked)
    (entry,) = Worklist(tmp_path / "reports").entries().values()
    with Studies([tmp_path / "case"], key).opened(entry.found) as (study, source):
        assert study.slice_hu(0)[0, 0] == (100 if "#1" in series else 200)
        assert source.series == (series if "#" in series else f"{series}#2")


def test_the_studies_that_were_read_last_stay_open(reports, folder, monkeypatch):
    monkeypatch.setattr(images_module, "_KEPT", 2)
    (entry,) = Worklist(reports).entries().values()
    studies = Studies([folder.parent])
    with ImageCache() as images:
        first, second = (images.get(key, (0, 0), studies.opened(entry.found)) for key in "ab")
        assert len(first.slices(0, 16)) == 16 * 64 * 64 * 2
        assert images.known("a", (0, 0)) is first
        images.get("c", (0, 0), studies.opened(entry.found))
        assert images.known("a", (0, 0)) is first and images.known("b", (0, 0)) is None
        with pytest.raises(DataError, match="closed while it was read"):  # and no black pictures
            second.slices(0, 1)


def test_a_study_that_was_closed_while_it_was_read_is_opened_again(served, monkeypatch):
    read, closed = images_module.StudyImages.slices, []

    def once_closed(self, first, last):
        if not closed:
            closed.append(self)
            raise images_module.ClosedError("case", "was closed while it was read", "ask again")
        return read(self, first, last)

    monkeypatch.setattr(images_module.StudyImages, "slices", once_closed)
    answer = ask(served.url, f"{served.study}/slices/0/1")
    assert answer.status == 200 and closed


def test_a_full_disk_is_told(served, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="cannot be unpacked here"):
        images_module.StudyImages(nullcontext((None, None)), tmp_path / "nowhere")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    answer = ask(served.url, f"{served.study}/slices/0/1")
    assert answer.status == 422 and "make room there" in answer.json["error"]
    monkeypatch.setattr(os, "pwrite", lambda *_: 5)
    assert ask(served.url, f"{served.study}/slices/1/1").status == 422
    monkeypatch.undo()
    assert ask(served.url, f"{served.study}/slices/0/2").status == 200


def test_other_machines_get_what_is_packed(reports, folder):
    with serving(reports, studies=(folder.parent,), remote=True) as url:
        plain = ask(url, "/api/worklist")
        packed = ask(url, "/static/reader.js", Accept_Encoding="gzip")
        assert packed.headers["content-encoding"] == "gzip"
        assert b"The page of one study" in zlib.decompress(packed.body, 31)
        assert plain.status == 200


def test_a_damaged_report_is_told_and_the_others_stay(served, reports):
    before = ask(served.url, "/api/worklist").json
    (reports / "PAT002").mkdir()
    (reports / "PAT002" / "report.json").write_text("{")
    write_report(reports / "PAT003", study="1.2.3")  # without what the worklist shows
    told = ask(served.url, "/api/worklist").json
    assert len(told["studies"]) == len(before["studies"]) > 0
    assert len(told["failures"]) == len(before["failures"]) + 2
    listed = Worklist(reports)
    listed.entries()
    said = {each["name"]: each["reason"].partition(" (")[0] for each in listed.failures()}
    assert said == {
        "PAT002/report.json": "no readable report",
        "PAT003/report.json": "the report lacks values that this version needs",
    }


def _study(reports):
    (study,) = ReviewStore(reports).states()
    return study
