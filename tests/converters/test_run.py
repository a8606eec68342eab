import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from raw_sets import all_images, tree, write_fumpe_patient

from pe_unified.converters.pipeline import run as run_module
from pe_unified.converters.pipeline import store as store_module
from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults
from pe_unified.converters.raw.fumpe import Fumpe
from pe_unified.converters.verify import verify
from pe_unified.errors import DataError

QUIET = RunOptions(quiet=True)
COMMANDS = Path(__file__).resolve().parents[2] / "data_converters"


def write_set(raw, patients, **options):
    for k in range(1, patients + 1):
        write_fumpe_patient(raw, f"PAT{k:03d}", reversed_z=k % 2 == 0, empty=k == 3, **options)
    return raw


def command(raw, out, *options):
    script = COMMANDS / "fumpe_to_coco.py"
    return [sys.executable, str(script), str(raw), str(out), *map(str, options)]


def inodes(out):
    """Identity of every slice of every finished patient."""
    finished = {path.stem for path in (out / ".conversion" / "patients").glob("*.json")}
    return {
        path.relative_to(out).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for patient in finished
        for path in (out / "images" / patient).glob("*.png")
    }


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path):
    raw = write_set(tmp_path / "raw", 10, size=192, count=24)
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    subprocess.run(command(raw, undisturbed, "--workers", 2, "--quiet"), check=True)
    rng = random.Random(7)
    kills = 0
    while kills < 5:
        before = inodes(out)
        process = subprocess.Popen(command(raw, out, "--workers", 2, "--quiet"))
        # Let it get to work, then strike within the next third of a second.
        while process.poll() is None and not list(out.glob(".conversion/unfinished/*")):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
        workers = (
            psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        # What was finished is left alone, and no worker outlives the run.
        after = inodes(out)
        assert before.items() <= after.items()
        psutil.wait_procs(workers)
        if (out / "conversion_report.json").exists():
            break
    before = inodes(out)
    subprocess.run(command(raw, out, "--workers", 1, "--quiet"), check=True)
    assert before.items() <= inodes(out).items()
    assert tree(out) == tree(undisturbed)
    assert verify(out) == []
    assert kills >= 2


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


FILE_STEPS = [
    (os, "rename"),
    (os, "replace"),
    (Path, "unlink"),
    (Path, "mkdir"),
    (Path, "write_bytes"),
    (Path, "write_text"),
    (shutil, "rmtree"),
]


class Strike:
    """Kills the run before, or after, its n-th step on the disk."""

    def __init__(self, monkeypatch, at, after):
        self.left, self.after = at, after
        for owner, name in FILE_STEPS:
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, step):
        def struck(*args, **kwargs):
            self.left -= 1
            now = self.left == 0
            if now and not self.after:
                raise Killed
            result = step(*args, **kwargs)
            if now:
                raise Killed
            return result

        return struck


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_between_any_two_steps(tmp_path, monkeypatch, after, stride):
    raw = write_set(tmp_path / "raw", 3, size=24, count=4)
    convert(Fumpe(raw), tmp_path / "undisturbed", QUIET)
    expected = tree(tmp_path / "undisturbed")
    out = tmp_path / "out"
    at, struck = 1 - stride, True
    while struck:
        at += stride
        shutil.rmtree(out, ignore_errors=True)
        with monkeypatch.context() as patch:
            Strike(patch, at, after)
            try:
                convert(Fumpe(raw), out, QUIET)
                struck = False
            except Killed:
                pass
        before = inodes(out) if out.exists() else {}
        convert(Fumpe(raw), out, QUIET)
        assert tree(out) == expected, at
        assert before.items() <= inodes(out).items()
        assert not list(out.rglob("*.part"))
    assert at > 30


def test_finished_patients_are_not_redone(tmp_path):
    raw = write_set(tmp_path / "raw", 3, size=24, count=4)
    out = tmp_path / "out"
    convert(Fumpe(raw), out, QUIET)
    before = inodes(out)
    assert len(before) == 12
    convert(Fumpe(raw), out, QUIET)
    assert inodes(out) == before
    # A slice that went missing, a mask that changed: only those patients.
    (out / "images" / "PAT001" / "0002.png").unlink()
    os.utime(raw / "GroundTruth" / "PAT002.mat", (1, 1))
    convert(Fumpe(raw), out, QUIET)
    changed = {name.split("/")[1] for name, inode in inodes(out).items() if before[name] != inode}
    assert changed == {"PAT001", "PAT002"}
    assert verify(out) == []


def test_files_that_would_be_the_same_are_not_written_again(tmp_path):
    raw = write_set(tmp_path / "raw", 3, size=24, count=4)
    out = tmp_path / "out"

    def written():
        files = [out / "conversion_report.json", *out.glob("annotations/*.json")]
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    convert(Fumpe(raw), out, RunOptions(quiet=True, folds=2))
    before = written()
    assert len(before) == 8
    convert(Fumpe(raw), out, RunOptions(quiet=True, folds=2))
    assert written() == before and not list(out.rglob("*.part"))
    # Other groups: the patient's own part and the report change, the empty parts do not.
    convert(Fumpe(raw), out, RunOptions(quiet=True, folds=2, groups={"PAT001": "g"}))
    changed = {name for name, file in written().items() if before[name] != file}
    assert "conversion_report.json" in changed and len(changed) < 8
    assert verify(out) == []


def test_other_options_redo_all(tmp_path):
    raw = write_set(tmp_path / "raw", 2, size=24, count=4)
    convert(Fumpe(raw), tmp_path / "out", QUIET)
    before = inodes(tmp_path / "out")
    convert(Fumpe(raw, check_hu=False), tmp_path / "out", QUIET)
    assert not before.items() & inodes(tmp_path / "out").items()


def test_groups_are_written_down_and_redo_nothing(tmp_path):
    raw, out = write_set(tmp_path / "raw", 4, size=24, count=4), tmp_path / "out"
    convert(Fumpe(raw), out, QUIET)
    before, plain = inodes(out), tree(out)
    assert not any("group" in image for image in all_images(out))
    (raw / "GroundTruth" / "PAT004.mat").unlink()
    groups = {"PAT001": "g", "PAT003": "g", "PAT004": "h"}
    report = convert(Fumpe(raw), out, RunOptions(quiet=True, groups=groups))
    assert {entry["patient_id"]: entry.get("group") for entry in report["patients"]} == {
        "PAT001": "g",
        "PAT002": None,
        "PAT003": "g",
        "PAT004": "h",
    }
    images = all_images(out)
    assert {(i["patient_id"], i.get("group")) for i in images} == {
        ("PAT001", "g"),
        ("PAT002", None),
        ("PAT003", "g"),
    }
    assert len({image["split"] for image in images if "group" in image}) == 1
    assert inodes(out).items() <= before.items() and verify(out) == []
    write_set(raw, 4, size=24, count=4)
    convert(Fumpe(raw), out, QUIET)
    assert tree(out) == plain


def test_patients_removed_from_the_raw_set_go(tmp_path):
    raw, out = write_set(tmp_path / "raw", 3, size=24, count=4), tmp_path / "out"
    convert(Fumpe(raw), out, QUIET)
    (raw / "GroundTruth" / "PAT002.mat").unlink()
    shutil.rmtree(raw / "CT_scans" / "PAT002")
    report = convert(Fumpe(raw), out, QUIET)
    assert len(report["patients"]) == 2
    assert {image["patient_id"] for image in all_images(out)} == {"PAT001", "PAT003"}
    assert verify(out) == []


def test_one_patient_is_spread_over_workers_with_the_same_bytes(tmp_path):
    raw = write_set(tmp_path / "raw", 1, size=64, count=60)
    convert(Fumpe(raw), tmp_path / "one", QUIET)
    convert(Fumpe(raw), tmp_path / "three", RunOptions(quiet=True, workers=3))
    assert tree(tmp_path / "one") == tree(tmp_path / "three")


def test_files_of_others_among_the_annotations_stay(tmp_path):
    raw, out = write_set(tmp_path / "raw", 4, size=24, count=4), tmp_path / "out"
    convert(Fumpe(raw), out, RunOptions(quiet=True, folds=2))
    (out / "annotations/reader2.json").write_text("{}")
    convert(Fumpe(raw), out, QUIET)
    names = {path.stem for path in (out / "annotations").iterdir()}
    assert names == {"train", "val", "test", "reader2"}


@pytest.mark.parametrize("where", ["", "converted", "CT_scans/PAT001"])
def test_the_raw_set_holds_nothing_else(tmp_path, where):
    raw = write_set(tmp_path / "raw", 2, size=24, count=4)
    before = tree(raw)
    with pytest.raises(DataError, match="a folder of the raw set; choose one outside"):
        convert(Fumpe(raw), raw / where, QUIET)
    assert tree(raw) == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    raw = write_set(tmp_path / "raw", 1, size=24, count=4)
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.doc").write_text("years of work")
    with pytest.raises(DataError, match="is not empty and was not made by fumpe"):
        convert(Fumpe(raw), out, QUIET)
    assert [path.name for path in out.iterdir()] == ["thesis.doc"]
    shutil.rmtree(out)
    convert(Fumpe(raw), out, QUIET)
    (out / ".conversion" / "converter").write_text("rsna\n")
    with pytest.raises(DataError, match="holds a data set made by rsna"):
        convert(Fumpe(raw), out, QUIET)


def test_two_runs_in_one_folder_are_refused(tmp_path):
    raw, out = write_set(tmp_path / "raw", 1, size=24, count=4), tmp_path / "out"
    with (
        store_module.Store(out, "fumpe", {}).open(),
        pytest.raises(DataError, match="another conversion is running"),
    ):
        convert(Fumpe(raw), out, QUIET)
    assert report_faults(convert(Fumpe(raw), out, QUIET)) == []


def test_nothing_to_convert(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match="no patients found"):
        convert(Fumpe(tmp_path / "raw"), tmp_path / "out", QUIET)


def test_patients_slices_and_their_rate_are_told(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(run_module, "tell", lambda *call: calls.append(call))
    now = itertools.count(0.0, 0.5)
    monkeypatch.setattr(run_module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    convert(Fumpe(write_set(tmp_path / "raw", 2, size=24, count=4)), tmp_path / "out", QUIET)
    assert {call[0] for call in calls} == {"fumpe, patients"} and {call[2] for call in calls} == {2}
    done = [call[1] for call in calls]
    assert done == sorted(done) and (done[0], done[-1]) == (0, 2)
    assert calls[0][3] == "0 slices, 0 slices/s"
    assert calls[-1][3] == f"8 slices, {16 / len(calls):.0f} slices/s"


def test_a_half_written_record_counts_as_none(tmp_path):
    raw, out = write_set(tmp_path / "raw", 2, size=24, count=4), tmp_path / "out"
    convert(Fumpe(raw), out, QUIET)
    expected = tree(out)
    record = out / ".conversion" / "patients" / "PAT001.json"
    record.write_text(record.read_text()[:100])
    convert(Fumpe(raw), out, QUIET)
    assert tree(out) == expected and json.loads(record.read_text())


# Not ru_maxrss: a process inherits that from the one that started it.
PEAK = """
import sys
from pathlib import Path
from pe_unified.converters.pipeline.run import RunOptions, convert
from pe_unified.converters.raw.fumpe import Fumpe
convert(Fumpe(Path(sys.argv[1])), sys.argv[2], RunOptions(quiet=True))
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


def peak_mb(raw, out):
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(raw), str(out)], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.slow
def test_memory_stays_flat_as_the_set_grows(tmp_path):
    raw = write_set(tmp_path / "raw", 1, size=256, count=16)
    few = peak_mb(raw, tmp_path / "few")
    for k in range(2, 21):
        name = f"PAT{k:03d}"
        shutil.copytree(raw / "CT_scans" / "PAT001", raw / "CT_scans" / name)
        shutil.copy(raw / "GroundTruth" / "PAT001.mat", raw / "GroundTruth" / f"{name}.mat")
    many = peak_mb(raw, tmp_path / "many")
    # Twenty patients of 2 MB of pixels each would show.
    assert many - few < 15 and many < 1000
