"""The installation from a folder of wheels."""

import os
import subprocess
import sys


def test_no_setting_of_the_machine_reaches_pip(load_tool, tmp_path):
    """As --isolated does not: it leaves the global pip.conf active."""
    (tmp_path / "etc/pip").mkdir(parents=True)
    (tmp_path / "etc/pip/pip.conf").write_text("[global]\nfind-links = /elsewhere\n")
    told = tmp_path / "told.txt"
    scripts = {
        "python": 'mkdir -p "$3/bin"; cp pip pe-unified "$3/bin"',
        "pip": f'exec "{sys.executable}" -m pip "$1" config list > "{told}"',
        "pe-unified": "",
        "install.sh": load_tool("wheelhouse").INSTALL % {"version": "3"},
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "XDG_CONFIG_DIRS": str(tmp_path / "etc")}
    environment["PIP_FIND_LINKS"] = "/elsewhere"
    words = ["sh", "install.sh", "venv", "./python"]
    subprocess.run(words, cwd=tmp_path, env=environment, check=True)
    assert "elsewhere" not in told.read_text()
