"""Several studies in one place of a batch: each has its row and its report."""

import json
import shutil

import pydicom
import pytest

from pe_unified.reports.analysis import AnalysisOptions
from pe_unified.reports.batch import analyse_many

pytestmark = pytest.mark.usefixtures("in_this_process", "without_dicom")


def several(painted_set, folder):
    """Two studies of one patient, and one of another, in one folder."""
    sources = sorted((painted_set[1].parent / "CT_scans").iterdir())
    names = [("P1", "1.2.3", "20190101"), ("P1", "1.2.4", "20210101"), ("P2", "1.2.5", "20210101")]
    for source, (patient, uid, date) in zip(sources, names, strict=False):
        for file in source.iterdir():
            one = pydicom.dcmread(file)
            one.PatientID, one.StudyInstanceUID, one.StudyDate = patient, uid, date
            one.SeriesInstanceUID = f"{uid}.9"
            target = folder / date / f"{uid} {file.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            one.save_as(target)
    return folder


def test_every_study_of_a_place_has_its_row_and_its_report(painted_set, model, tmp_path):
    root, out, told = tmp_path / "cases", tmp_path / "out", []
    several(painted_set, root / "mixed")
    shutil.make_archive(str(root / "zipped"), "zip", root / "mixed")
    summary = analyse_many(root, out, model, progress=lambda *each: told.append(each))
    uids = ["1.2.3", "1.2.4", "1.2.5"]
    names = [f"{place}/{uid}" for place in ("mixed", "zipped.zip") for uid in uids]
    assert [row["study"] for row in summary.rows] == names and not summary.failed
    assert [row["study_uid"] for row in summary.rows] == uids * 2
    for row in summary.rows:
        report = json.loads((out / row["report"]).read_text())
        assert report["input"]["study_uid"] == row["study_uid"]
        assert "other patients" in " ".join(report["input"]["notes"])
        assert "P1" not in json.dumps(report) and "P2" not in json.dumps(report)
    assert told == [(1, 2, "mixed: done"), (2, 2, "zipped.zip: done")]
    # What is done is not done again, one by one.
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("report.json")}
    lost = out / "mixed" / "1.2.4" / "report.json"
    lost.unlink()
    assert [row["study"] for row in analyse_many(root, out, model).rows] == names
    for path, stamp in stamps.items():
        assert (path.stat().st_mtime_ns == stamp) == (path != lost)
    hidden = tmp_path / "hidden"
    rows = analyse_many(root, hidden, model, AnalysisOptions(pseudonym_key="k" * 16)).rows
    assert len({row["report"] for row in rows}) == 6
    kept = [str(path) for path in hidden.rglob("*")] + [(hidden / "summary.csv").read_text()]
    assert not [text for text in kept if "1.2.3" in text or "P1" in text]


@pytest.mark.usefixtures("with_dicom")
def test_a_second_study_leaves_no_report_of_the_first_beside_its_own(painted_set, model, tmp_path):
    root, out = tmp_path / "cases", tmp_path / "out"
    later = several(painted_set, root / "mixed") / "20210101"
    later.rename(tmp_path / "later")
    analyse_many(root, out, model, AnalysisOptions(lung_mask=True))
    assert (out / "mixed" / "report.json").exists()
    (out / "mixed" / "own notes.txt").write_text("keep")
    (tmp_path / "later").rename(later)
    analyse_many(root, out, model)
    names = {path.name for path in (out / "mixed").iterdir()}
    assert names == {"1.2.3", "1.2.4", "1.2.5", "own notes.txt"}


@pytest.mark.parametrize("key", [None, pytest.param("k" * 16, marks=pytest.mark.slow)])
def test_where_only_missing_reports_are_wanted_a_second_study_is_one(
    painted_set, model, tmp_path, key
):
    """And the first one's report moves beside it, with what its readers drew."""
    root, out = tmp_path / "cases", tmp_path / "out"
    options = AnalysisOptions(pseudonym_key=key)
    later = several(painted_set, root / "mixed") / "20210101"
    later.rename(tmp_path / "later")
    (row,) = analyse_many(root, out, model, options).rows
    place = (out / row["report"]).parent
    (place / "redrawn").mkdir()
    (place / "redrawn" / "mask.npz").write_bytes(b"drawn")
    first = (place / "report.json").read_bytes()
    (root / "mixed" / "20190101" / "notes.txt").touch()  # other files, but the same study
    assert analyse_many(root, out, model, options, missing=True).rows == [row]
    assert (place / "report.json").read_bytes() == first
    (tmp_path / "later").rename(later)
    rows = analyse_many(root, out, model, options, missing=True).rows
    reports = [out / each["report"] for each in rows]
    assert len(set(reports)) == 3 and {each.parent.parent for each in reports} == {place}
    (moved,) = [each.parent for each in reports if each.read_bytes() == first]
    assert (moved / "redrawn" / "mask.npz").read_bytes() == b"drawn"
    assert not (place / "report.json").exists()


def test_studies_that_no_uid_tells_apart_are_numbered(painted_set, model, tmp_path):
    root = tmp_path / "cases"
    for file in several(painted_set, root / "mixed").rglob("*.dcm"):
        one = pydicom.dcmread(file)
        one.StudyInstanceUID = ""
        one.save_as(file)
    rows = analyse_many(root, tmp_path / "out", model).rows
    assert [(row["study"], row["status"]) for row in rows] == [
        *(("mixed/study1", "done"), ("mixed/study2", "done"))
    ]
