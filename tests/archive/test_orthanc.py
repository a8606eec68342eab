"""The service beside a real archive: 30 studies, one damaged, two kills, each result once."""

import datetime
import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
import yaml
from archive_parts import as_study
from orthanc import ABSENT, free_port, orthanc
from processes import run, started, wait_for_the_end_of_all

STUDIES, DAMAGED = 30, 7
DCMQI = Path(sys.executable).with_name("segimage2itkimage")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(ABSENT), reason=ABSENT)]


def encoded(dataset):
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def health(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return json.loads(answer.read())["studies"]
    except OSError:
        return {}


def wait_for(happened, seconds, what):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, what()
        time.sleep(0.1)


def uid_of(number):
    return f"1.2.826.0.1.3680043.8.498.{1000 + number}"


@pytest.fixture(scope="module")
def archive(folder, checkpoint, tmp_path_factory):
    """The archive after all of it; the folder of the service, and its log."""
    place = tmp_path_factory.mktemp("orthanc")
    dicom, status = free_port(), free_port()
    with orthanc(place, dicom) as made:
        settings = {
            "folder": "pacs",
            "model": {"checkpoint": str(checkpoint), "device": "cpu", "precision": "fp32"},
            "receive": {"port": dicom, "host": "127.0.0.1", "allow": ["ORTHANC"]},
            "poll": [{"name": "orthanc", "web": {"url": made.web}, "every_s": 2}],
            "complete_after_s": 3,
            "rules": [{"name": "CT", "where": {"modality": "^CT$"}, "do": "analyse"}],
            "send": [
                {"name": "dicom", "dicom": made.node, "objects": ["seg", "key_images"]},
                {"name": "web", "web": {"url": made.web}, "objects": ["sr"]},
            ],
            "key_images": 2,
            "retry": {"first_s": 0.5, "most_s": 5},
            "status": {"port": status},
            "keep": {"least_free_gb": 0},
        }
        config = place / "pacs.yaml"
        config.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "pe_unified", "pacs", config]
        checked = run([*command, "--check"])
        assert checked.returncode == 0, checked.stdout + checked.stderr
        log = (place / "service.log").open("a")
        today = f"{datetime.date.today():%Y%m%d}"

        def deliver(number):
            for each in as_study(folder, uid_of(number), StudyDate=today, PatientID=f"P{number}"):
                if number == DAMAGED:
                    each.PixelData = each.PixelData[:1000]
                made.post("/instances", encoded(each))

        def killed_when(happened):
            with started(command, stdout=log, stderr=log) as process:
                wait_for(
                    lambda: process.poll() is not None or happened(health(status)),
                    300,
                    lambda: (place / "service.log").read_text()[-3000:],
                )
                assert process.poll() is None, (place / "service.log").read_text()[-3000:]
                process.send_signal(signal.SIGKILL)
                wait_for_the_end_of_all(process)

        for number in range(STUDIES // 2):
            deliver(number)
        # By C-STORE and seen by the poll: one study all the same.
        killed_when(lambda told: told.get("done", 0) >= 3 and told["running"])
        for number in range(STUDIES // 2, STUDIES):
            deliver(number)
        killed_when(lambda told: told.get("done", 0) >= 12 and told["running"])
        with started(command, stdout=log, stderr=log) as process:
            wait_for(lambda: health(status), 120, lambda: "no answer")
            for study in made.ask("/studies")[::3]:
                job = json.dumps({"Resources": [study], "Synchronous": False}).encode()
                made.post("/modalities/PE_UNIFIED/store", job)
            over = {"done": STUDIES - 1, "failed": 1}
            wait_for(
                lambda: {k: v for k, v in health(status).items() if v} == over,
                400,
                lambda: f"{health(status)} {(place / 'service.log').read_text()[-3000:]}",
            )
            time.sleep(8)  # nothing more comes: further looks, quiet times
            assert {k: v for k, v in health(status).items() if v} == over
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        log.close()
        assert "Traceback" not in (place / "service.log").read_text()
        yield made, place


def instances(made, number):
    """Modality to instances of a study."""
    body = json.dumps({"Level": "Study", "Query": {"StudyInstanceUID": uid_of(number)}}).encode()
    (study,) = made.post("/tools/find", body)
    found = {}
    for series in made.ask(f"/studies/{study}/series"):
        own = found.setdefault(series["MainDicomTags"]["Modality"], [])
        own.append(series["Instances"])
    return found


def test_every_result_is_there_once(archive):
    made, place = archive
    for number in range(STUDIES):
        found = instances(made, number)
        if number == DAMAGED:
            assert found.keys() == {"CT"}
            continue
        assert {modality: len(series) for modality, series in found.items()} == {
            **dict.fromkeys(("CT", "SEG", "SR", "OT"), 1)
        }, number
        assert len(found["SEG"][0]) == len(found["SR"][0]) == 1
        assert 1 <= len(found["OT"][0]) <= 2
    events = [
        json.loads(line)
        for line in (place / "service.log").read_text().splitlines()
        if line.startswith("{")
    ]
    assert sum(each["event"] == "taken up again" for each in events) >= 1
    text = (place / "service.log").read_text()
    assert uid_of(3) not in text and '"P3"' not in text


@pytest.mark.skipif(not DCMQI.exists(), reason="no dcmqi for this platform")
def test_dcmqi_opens_every_segmentation(archive, tmp_path):
    made, _ = archive
    for number in set(range(STUDIES)) - {DAMAGED}:
        (instance,) = instances(made, number)["SEG"][0]
        (tmp_path / "seg.dcm").write_bytes(made.get(f"/instances/{instance}/file"))
        out = tmp_path / str(number)
        out.mkdir()
        words = [DCMQI, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", out]
        subprocess.run([*words, "--outputType", "nii"], check=True, capture_output=True)
        assert list(out.glob("*.nii.gz"))


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="no dciodvfy (dicom3tools)")
def test_dciodvfy_finds_no_error(archive, tmp_path):
    made, _ = archive
    for number in set(range(STUDIES)) - {DAMAGED}:
        found = instances(made, number)
        for instance in found["SEG"][0] + found["SR"][0] + found["OT"][0]:
            path = tmp_path / "object.dcm"
            path.write_bytes(made.get(f"/instances/{instance}/file"))
            assert pydicom.dcmread(path).StudyInstanceUID == uid_of(number)
            done = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
            assert "Error" not in done.stderr + done.stdout, done.stderr
