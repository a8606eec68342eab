"""Files that appear whole or not at all."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pe_unified import files
from pe_unified.files import (
    appearing,
    appearing_folder,
    put_all_in_place,
    put_in_place,
    remove_abandoned,
    write_bytes,
    write_text,
)


def test_text_arrives_in_utf8_and_its_folder_is_made(tmp_path):
    path = tmp_path / "a" / "b" / "words.txt"
    write_text(path, "Größe\n")
    assert path.read_bytes() == "Größe\n".encode()
    assert os.listdir(path.parent) == ["words.txt"]


def test_the_same_bytes_leave_the_file_and_its_time(tmp_path):
    path = tmp_path / "table.csv"
    write_bytes(path, b"one")
    os.utime(path, ns=(10**18, 10**18))
    write_bytes(path, b"one")
    assert path.stat().st_mtime_ns == 10**18
    write_bytes(path, b"two")
    assert path.stat().st_mtime_ns != 10**18 and path.read_bytes() == b"two"


def test_two_threads_write_the_same_file(tmp_path):
    with ThreadPoolExecutor() as pool, appearing(tmp_path / "image") as partial:
        partial.write_bytes(b"in part")
        pool.submit(write_bytes, tmp_path / "image", b"whole").result()
        assert (tmp_path / "image").read_bytes() == b"whole"
        partial.write_bytes(b"later")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"image": b"later"}


def test_a_written_file_takes_the_name(tmp_path):
    (tmp_path / "new.part").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old")
    put_in_place(tmp_path / "new.part", tmp_path / "old")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"old": b"new"}


def test_files_that_belong_together_are_renamed_together(tmp_path, monkeypatch):
    """However long the comparisons take: a kill in them changes nothing."""
    names = {}
    for k, content in enumerate((b"same", b"new", b"first")):
        names[tmp_path / f"{k}.part"] = tmp_path / f"{k}"
        (tmp_path / f"{k}.part").write_bytes(content)
    (tmp_path / "0").write_bytes(b"same")
    (tmp_path / "1").write_bytes(b"old")
    steps = []
    compare, replace = files.filecmp.cmp, files.os.replace
    monkeypatch.setattr(
        files.filecmp, "cmp", lambda *a, **k: steps.append("compare") or compare(*a, **k)
    )
    monkeypatch.setattr(files.os, "replace", lambda *a: steps.append("rename") or replace(*a))
    put_all_in_place(names)
    assert steps == ["compare", "compare", "rename", "rename"]
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {"0": b"same", "1": b"new", "2": b"first"}


def test_a_full_disk_leaves_what_stood_there(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_bytes(path, b"old")

    def fill_up(place, content):
        with open(place, "wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"report.json": b"old"}


def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "state.json"
    write_bytes(path, b"old")
    code = """
import os, signal, sys
from pathlib import Path
import pe_unified.files as files
files.put_in_place = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
files.write_bytes(Path(sys.argv[1]), b"new")
"""
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    assert path.read_bytes() == b"old"


def test_a_folder_takes_the_place_of_the_old_one_whole_or_not_at_all(tmp_path):
    out, left = tmp_path / "out", tmp_path / ".out.part"
    left.mkdir()
    (left / "half").touch()  # of a killed run
    with appearing_folder(out) as partial:
        (partial / "one").touch()
        assert not out.exists()
    assert os.listdir(out) == ["one"]
    with appearing_folder(out) as partial:
        (partial / "two").touch()
        assert os.listdir(out) == ["one"]
    assert os.listdir(out) == ["two"]
    with pytest.raises(KeyboardInterrupt), appearing_folder(out) as partial:
        (partial / "three").touch()
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["out"] and os.listdir(out) == ["two"]


def test_what_killed_runs_left_goes_and_what_is_being_written_stays(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in ("m.pth", "log.txt"):
        (tmp_path / f".{name}.{dead.pid}.7.part").touch()
    with appearing(tmp_path / "m.pth") as partial:
        partial.touch()
        remove_abandoned(tmp_path, ".pth")
        assert {each.name for each in tmp_path.iterdir()} == {
            *(f".log.txt.{dead.pid}.7.part", partial.name),
        }
