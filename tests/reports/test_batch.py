"""Twenty studies, eight of them broken in eight ways, and a worker killed on the way."""

import csv
import json
import os
import shutil
import signal
import threading
import time
import zipfile
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pydicom
import pytest
from dicom_files import write_hu, write_slice
from distributed import Client
from filelock import FileLock

from pe_unified.errors import DataError
from pe_unified.inference.predictor import PredictorSettings
from pe_unified.reports import batch
from pe_unified.reports.analysis import AnalysisOptions
from pe_unified.reports.batch import analyse_many
from pe_unified.workers import SerialExecutor

pytestmark = pytest.mark.usefixtures("without_dicom")

FILES = {"report.json", "report.html", "slices.csv", "findings.sr.dcm"}
REASONS = {
    "bad1-empty": "no axial CT slice",
    "bad2-pdf": "not a DICOM file",
    "bad3-cut": "cannot be decoded",
    "bad4-ultrasound": "modality US",
    "bad5-one": "1 slices",
    "bad6-climbs.zip": "leads out of it",
    "bad7-nan.nii": "its header does not give",
    "bad8-picture": "8-bit image",
}


def write_broken(root, good):
    hu = np.zeros((64, 64), np.int16)
    for name in ("bad1-empty", "bad2-pdf"):
        (root / name).mkdir()
    (root / "bad2-pdf" / "thesis.dcm").write_bytes(b"%PDF-1.7 " * 99)
    shutil.copytree(good, root / "bad3-cut")
    victim = sorted((root / "bad3-cut").iterdir())[7]
    victim.write_bytes(victim.read_bytes()[:-2000])
    for k in range(12):
        write_hu(root / "bad4-ultrasound" / f"{k}", hu, z=k, Modality="US")
    write_hu(root / "bad5-one" / "1", hu)
    with zipfile.ZipFile(root / "bad6-climbs.zip", "w") as archive:
        archive.writestr("../../escaped.dcm", b"x")
    header = nibabel.Nifti1Image(np.zeros((64, 64, 9), np.int16), np.eye(4)).header
    header["pixdim"][1:4] = np.nan
    header["srow_x"] = np.nan
    (root / "bad7-nan.nii").write_bytes(header.binaryblock + bytes(4 + 64 * 64 * 9 * 2))
    for k in range(12):
        write_slice(root / "bad8-picture" / f"{k}", np.full((64, 64), 9, np.uint8), z=k)


@pytest.fixture
def twenty(painted_set, tmp_path):
    root = tmp_path / "cases"
    root.mkdir()
    folders = sorted((painted_set[1].parent / "CT_scans").iterdir())
    for k in range(12):
        source = folders[k % len(folders)]
        if k % 8 == 7:
            shutil.make_archive(str(root / f"case{k}"), "zip", source)
        else:
            shutil.copytree(source, root / f"case{k}")
    write_broken(root, folders[0])
    return root


def kill_a_worker_when(counts, at):
    """In a thread: end one of the worker processes, with no time to tidy up."""
    killed = []

    def watch():
        while not killed and counts[-1] < 16:
            time.sleep(0.05)
            if counts[-1] >= at:
                for process in psutil.Process().children(recursive=True):
                    names = " ".join(process.cmdline())
                    if "forkserver" in names and process.children():
                        process.children()[0].kill()
                        killed.append(process)
                        return

    thread = threading.Thread(target=watch)
    thread.start()
    return thread, killed


def test_one_bad_study_or_a_killed_worker_stops_no_other(twenty, model, tmp_path):
    out, counts = tmp_path / "out", [0]
    thread, killed = kill_a_worker_when(counts, at=6)
    summary = analyse_many(
        twenty, out, model, workers=2, threads=1, progress=lambda done, *_: counts.append(done)
    )
    thread.join()
    assert killed, "no worker was killed: the test showed nothing"
    assert len(summary.rows) == 20
    assert {row["study"] for row in summary.failed} == set(REASONS)
    for row in summary.failed:
        assert REASONS[row["study"]] in row["reason"]
        assert not any((out / row["study"]).glob("*")), row["study"]
    done = [row for row in summary.rows if row["status"] == "done"]
    assert len(done) == 12
    for row in done:
        found = {path.name for path in (out / row["study"]).iterdir()}
        assert found >= FILES and not [name for name in found if name.startswith(".")]
        report = json.loads((out / row["report"]).read_text())
        assert report["exam"]["probability"] == row["exam_probability"]
        assert report["exam"]["positive"] == row["positive"]
    with (out / "summary.csv").open() as file:
        stored = list(csv.DictReader(file))
    assert [row["study"] for row in stored] == [row["study"] for row in summary.rows]
    assert not (tmp_path / "escaped.dcm").exists() and not (twenty.parent / "escaped.dcm").exists()


def copies(painted_set, root, count):
    folders = sorted((painted_set[1].parent / "CT_scans").iterdir())
    for k in range(count):
        shutil.copytree(folders[k], root / f"case{k}")
    return root


@pytest.mark.usefixtures("in_this_process")
def test_what_is_done_is_not_done_again(painted_set, model, tmp_path):
    root, out = copies(painted_set, tmp_path / "cases", 2), tmp_path / "out"
    first = analyse_many(root, out, model)
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/report.json")}
    assert len(stamps) == 2
    (out / "case1" / "report.json").unlink()
    told = []
    again = analyse_many(root, out, model, progress=lambda *each: told.append(each))
    assert len(told) == 1 and told[0][2].startswith("case1")
    for path, stamp in stamps.items():
        assert (path.stat().st_mtime_ns == stamp) == (path.parent.name != "case1")
    without = [{k: v for k, v in row.items() if k != "seconds"} for row in again.rows]
    assert without == [{k: v for k, v in row.items() if k != "seconds"} for row in first.rows]

    # What the worker's machine decides may differ; the way asked for and the files may not.
    def done_again(settings=model, **options):
        told.clear()
        options = AnalysisOptions(**options)
        analyse_many(root, out, settings, options, progress=lambda *each: told.append(each))
        return len(told)

    assert done_again(replace(model, device=None, precision=None)) == 0
    next((root / "case0").iterdir()).touch()
    assert done_again() == 1
    report = out / "case0" / "report.json"
    found = json.loads(report.read_text())  # as an earlier version wrote it
    report.write_text(json.dumps({**found, "schema_version": "1.3"}))
    assert done_again() == 1
    assert done_again(every_slice=True) == 2
    assert done_again(replace(model, precision="bf16"), every_slice=True) == 2


@pytest.mark.slow
def test_a_report_of_what_was_not_asked_for_does_not_count(painted_set, model, tmp_path):
    root, out, told = copies(painted_set, tmp_path / "cases", 1), tmp_path / "out", []
    for file in (root / "case0").iterdir():
        one = pydicom.dcmread(file)
        one.PatientID = "MRN-4711"
        one.save_as(file)
    names = [one.StudyInstanceUID, "newest", "MRN-4711"]
    choices = ({}, {"series_uid": one.SeriesInstanceUID}, *({"study_uid": n} for n in names))
    for key, asked in [*((None, each) for each in choices), ("k" * 16, choices[-1])]:
        options = AnalysisOptions(pseudonym_key=key, **asked)
        for expected in (1, 0):
            told.clear()
            target = out / str(key)
            analyse_many(root, target, model, options, progress=lambda *e: told.append(e))
            assert len(told) == expected, (asked, key)
        (path,) = target.glob("*/report.json")
        assert "4711" not in path.read_text()


@pytest.mark.usefixtures("in_this_process")
def test_a_report_by_other_parts_in_int8_counts_where_only_missing_ones_are_wanted(
    painted_set, model, tmp_path
):
    root, out = copies(painted_set, tmp_path / "cases", 1), tmp_path / "out"
    analyse_many(root, out, model)
    path = out / "case0" / "report.json"
    report = json.loads(path.read_text())
    report["model"]["int8"] = ["decoder"]
    path.write_text(json.dumps(report))
    kept = path.read_bytes()
    assert len(analyse_many(root, out, model, missing=True).rows) == 1
    assert path.read_bytes() == kept
    analyse_many(root, out, model)
    assert json.loads(path.read_text())["model"]["int8"] == []


@pytest.mark.usefixtures("in_this_process")
def test_an_output_that_others_use_is_refused(painted_set, model, tmp_path):
    root = copies(painted_set, tmp_path / "cases", 1)
    for out in (root, root / "reports"):
        with pytest.raises(DataError, match="which is read: the next run"):
            analyse_many(root, out, model)
    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".lock"), pytest.raises(DataError, match="another run is writing"):
        analyse_many(root, out, model)
    with pytest.raises(ValueError, match="at least 1"):
        analyse_many(root, out, model, workers=-1)
    assert len(analyse_many(root, out, model).rows) == 1


@pytest.mark.usefixtures("in_this_process")
def test_pseudonyms_reach_folders_and_summary(painted_set, model, tmp_path):
    root = copies(painted_set, tmp_path / "cases", 1)
    (root / "case0").rename(root / "DOE^JANE")
    (root / "ROE^RICHARD").mkdir()
    (root / "ROE^RICHARD" / "ROE.dcm").write_bytes(b"rubbish" * 40)
    with zipfile.ZipFile(root / "ROE.zip", "w") as archive:
        archive.writestr("../ROE'S ROE^RICHARD/1.dcm", b"x")
    with zipfile.ZipFile(root / "DOE.zip", "w") as archive:
        archive.writestr("O'DOE^JANE.dcm", b"x" * 99)
    damaged = bytearray((root / "DOE.zip").read_bytes())
    damaged[50] ^= 1  # in the content: its checksum does not fit any more
    (root / "DOE.zip").write_bytes(damaged)
    for name in ("DOE^JANE.nii", "ROE^R.nrrd", "ROE^R.nii.gz"):
        (root / name).write_bytes(b"rubbish" * 100)
    told, options = [], AnalysisOptions(pseudonym_key="k")
    summary = analyse_many(
        root, tmp_path / "out", model, options, progress=lambda *each: told.append(each[2])
    )
    reasons = {row["reason"] for row in summary.failed}
    assert len(summary.failed) == 6
    assert any("member '...' leads out" in reason for reason in reasons)
    assert any(reason.startswith("no readable NIfTI file; ") for reason in reasons)
    assert any("cannot be unpacked; " in reason for reason in reasons)
    assert len(told) == 7
    everything = [*told, *(str(path) for path in (tmp_path / "out").rglob("*"))]
    everything += [path.read_text() for path in (tmp_path / "out").rglob("*.csv")]
    everything += [path.read_text() for path in (tmp_path / "out").rglob("*.json")]
    assert not [text for text in everything if "DOE" in text or "ROE" in text]


def test_what_cannot_even_be_listed_is_a_row(painted_set, model, tmp_path, monkeypatch):
    """Links to nowhere, and names in letters that are no UTF-8."""
    root = copies(painted_set, tmp_path / "cases", 1)
    (root / "gone.zip").symlink_to(tmp_path / "nowhere.zip")
    strange = os.fsdecode(b"M\xdcLLER")
    (root / "case0").rename(root / strange)
    (root / f"{strange}2").mkdir()
    told = []
    for key in (None, "k" * 16):
        out = tmp_path / f"out-{key}"
        options = AnalysisOptions(pseudonym_key=key)
        summary = analyse_many(root, out, model, options, progress=lambda *e: told.append(e[2]))
        assert sorted(row["status"] for row in summary.rows) == ["done", "failed", "failed"]
        assert len((out / "summary.csv").read_text().splitlines()) == 4
        # From here on without a process of its own.
        monkeypatch.setattr(batch, "_open", lambda *_: nullcontext((SerialExecutor(), 1)))
        again = analyse_many(root, out, model, options)
        assert [row["status"] for row in again.rows] == [row["status"] for row in summary.rows]
    assert "\n".join(told).encode() and any(name.startswith("M?LLER2: ") for name in told)


@pytest.mark.usefixtures("in_this_process")
def test_a_report_of_other_files_is_told(painted_set, model, tmp_path):
    root, out = copies(painted_set, tmp_path / "cases", 1), tmp_path / "out"
    analyse_many(root, out, model)
    for path in sorted((root / "case0").iterdir())[3:]:
        path.unlink()
    (row,) = analyse_many(root, out, model).rows
    assert row["status"] == "failed" and "the report of an earlier run stays" in row["reason"]


def test_a_pool_that_breaks_between_two_jobs_loses_none(painted_set, model, tmp_path, monkeypatch):
    """A worker may die after another one answered and before the next job goes out."""

    class Breaks(SerialExecutor):
        def submit(self, fn, /, *args, **kwargs):
            if calls:
                raise BrokenProcessPool("a worker died")
            calls.append(1)
            return super().submit(fn, *args, **kwargs)

    calls, alone = [], []
    monkeypatch.setattr(batch, "_open", lambda *_: nullcontext((Breaks(), 1)))
    monkeypatch.setattr(batch, "_run_alone", lambda job: alone.append(job) or batch.run_job(job))
    root = copies(painted_set, tmp_path / "cases", 2)
    summary = analyse_many(root, tmp_path / "out", model)
    assert [row["status"] for row in summary.rows] == ["done", "done"]
    assert [job.name for job in alone] == ["case1"]


@pytest.mark.usefixtures("in_this_process")
def test_a_task_that_the_cluster_gives_up_is_a_row(painted_set, model, tmp_path, monkeypatch):
    """Dask gives up a task after it ended several workers; the future then raises."""

    def given_up(job):
        if job.name == "case0":
            raise RuntimeError("KilledWorker: 4 workers died")
        return run_job(job)

    run_job = batch.run_job
    monkeypatch.setattr(batch, "run_job", given_up)
    root = copies(painted_set, tmp_path / "cases", 2)
    stale = tmp_path / "out" / "case0" / ".part-99"
    stale.mkdir(parents=True)
    summary = analyse_many(root, tmp_path / "out", model)
    assert [row["status"] for row in summary.rows] == ["failed", "done"]
    assert "4 workers died" in summary.rows[0]["reason"]
    assert not stale.exists()


@pytest.mark.slow
def test_the_cluster_gives_the_same(painted_set, checkpoint, tmp_path, cluster):
    model = PredictorSettings(str(checkpoint), device="cpu", precision="fp32")
    root = copies(painted_set, tmp_path / "cases", 2)
    (root / "broken").mkdir()
    here = analyse_many(root, tmp_path / "here", model)
    there = analyse_many(root, tmp_path / "there", model, scheduler=cluster)
    for one, other in zip(here.rows, there.rows, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {
            k: v for k, v in other.items() if k != "seconds"
        }
    for path in (tmp_path / "here").rglob("mask.nii.gz"):
        other = tmp_path / "there" / path.relative_to(tmp_path / "here")
        assert other.read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_a_killed_worker_of_the_cluster_costs_no_study(painted_set, model, tmp_path, cluster):
    """Its study is done by another one, and what it left half-written is gone."""
    root, out = copies(painted_set, tmp_path / "cases", 4), tmp_path / "out"
    with Client(cluster) as client:
        client.wait_for_workers(2)
        pids = list(client.run(os.getpid).values())
    killed = []

    def kill(done, total, last):
        if not killed:
            os.kill(pids[0], signal.SIGKILL)
            killed.append(pids[0])
            for name in {f"case{k}" for k in range(4)} - {last.partition(":")[0]}:
                (out / name / ".part-dead").mkdir(parents=True)

    summary = analyse_many(root, out, model, scheduler=cluster, progress=kill)
    assert killed and [row["status"] for row in summary.rows] == ["done"] * 4
    assert not list(out.glob("*/.part-*"))


def test_the_test_studies_are_different_patients(painted_set):
    """The summary of twenty would show nothing if all were one study."""
    folders = sorted((painted_set[1].parent / "CT_scans").iterdir())
    uids = {pydicom.dcmread(next(Path(f).iterdir())).StudyInstanceUID for f in folders}
    assert len(uids) == len(folders) == 4
