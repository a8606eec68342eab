"""The recipe of the environment, with a Python that is made up."""

import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

#: Debian's without python3-venv: it leaves half an environment, and fails.
WITHOUT_VENV = """#!/bin/sh
test "$2" = venv || exit 0
mkdir -p $3/bin && printf '#!/bin/sh\nexit 1\n' > $3/bin/python && chmod +x $3/bin/python
exit 1
"""
WITH_VENV = """#!/bin/sh
test "$2" = venv || exit 0
mkdir -p $3/bin && printf '#!/bin/sh\nexit 0\n' > $3/bin/python && chmod +x $3/bin/python
cp $3/bin/python $3/bin/uv && touch $3/bin/activate
"""


def make(repository, folder, python):
    script = folder / "python"
    script.write_text(python)
    script.chmod(0o755)
    words = ["make", "setup", f"PYTHON={script}", f"VENV={folder / 'venv'}"]
    return subprocess.run(words, cwd=repository, capture_output=True, text=True)


def test_half_an_environment_does_not_stay(repository, tmp_path):
    done = make(repository, tmp_path, WITHOUT_VENV)
    assert done.returncode and "apt-get install python3-venv" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_half_an_environment_of_an_interrupted_run_is_completed(repository, tmp_path):
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "venv/bin/python").chmod(0o755)
    done = make(repository, tmp_path, WITH_VENV)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "venv/.ready").exists()
