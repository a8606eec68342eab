import os
import subprocess
import sys
import tempfile
import time

import pytest

from pe_unified.ct.temporary_folder import scratch_folder
from pe_unified.errors import DataError

KILLED = """
import os, signal
from pe_unified.ct.temporary_folder import scratch_folder
with scratch_folder() as folder:
    (folder / "DOE^JANE.dcm").write_bytes(b"pixels")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def age(folder):
    before = time.time() - 3600
    os.utime(folder, (before, before))


def test_it_is_gone_at_the_end(place):
    with pytest.raises(ValueError, match="work"), scratch_folder() as folder:
        assert folder.parent == place
        raise ValueError("work")
    assert not list(place.iterdir())


def test_what_a_killed_process_left_goes_with_the_next(place):
    assert subprocess.run([sys.executable, "-c", KILLED]).returncode < 0
    (left,) = place.iterdir()
    assert (left / "DOE^JANE.dcm").exists()
    with scratch_folder():
        assert left.exists()  # young: its owner may be about to lock it
    age(left)
    with scratch_folder() as folder:
        assert list(place.iterdir()) == [folder]


def test_what_is_in_use_stays(place):
    with scratch_folder() as first:
        (first / "slice").write_bytes(b"1")
        age(first)
        with scratch_folder():
            assert (first / "slice").exists()


def test_links_and_the_folders_of_others_stay(place, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (place / "pe-study-evil").symlink_to(elsewhere)
    theirs = place / "pe-study-theirs"
    theirs.mkdir()
    age(theirs)
    age(elsewhere)
    monkeypatch.setattr(os, "getuid", lambda: theirs.stat().st_uid + 1)
    with scratch_folder():
        pass
    assert theirs.exists() and not list(elsewhere.iterdir())


def test_no_room_is_told(place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(place / "absent"))
    with pytest.raises(DataError, match="absent: cannot be written to"), scratch_folder():
        pass
