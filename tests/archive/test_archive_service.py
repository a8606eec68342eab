"""The service beside archives in this process: C-STORE and DICOMweb, both ways."""

import json
import logging
import urllib.request
from io import StringIO

import pydicom
import pytest
from archive_parts import WebArchive, as_study, copied, send, settings_of
from pydicom.uid import generate_uid

from pe_unified.archive import overview
from pe_unified.archive.errors import ArchiveError
from pe_unified.archive.logs import log_to
from pe_unified.archive.service import Service
from pe_unified.archive.work import analyse
from pe_unified.benchmarks.chromium import CHROMIUM, Chromium
from pe_unified.workers import WorkerDied


def states(service):
    return {k: v for k, v in overview.counts(service.store).items() if v}


def page_of(service, path):
    url = f"http://127.0.0.1:{service.page.port}{path}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


@pytest.fixture
def destinations(archive):
    return [{"name": "archive", "dicom": archive.node}]


def test_delivered_twice_it_is_done_once_and_with_a_new_slice_anew(
    folder, checkpoint, tmp_path, archive, destinations, serving, until, report
):
    run, asked = copied(report[0])
    # Longer than a pause between two slices of a sender on a busy machine.
    settings = settings_of(tmp_path, checkpoint, destinations, complete_after_s=1.0)
    service = serving(settings, run)
    slices = as_study(folder, "1.2.3")
    send(slices[:-1], service.receiver.port)
    until(lambda: states(service) == {"done": 1})
    send(slices[:-1], service.receiver.port)
    service.tidy()
    assert states(service) == {"done": 1} and len(asked) == 1 and len(archive.objects) == 2
    send(slices[-1:], service.receiver.port)
    until(lambda: states(service) == {"done": 1} and len(asked) == 2)
    assert len(archive.objects) == 4 and set(archive.times.values()) == {1}


def test_an_archive_that_refuses_gets_the_same_objects_later(
    folder, checkpoint, tmp_path, archive, destinations, serving, until, report
):
    archive.answers = [0xA700, 0xA700, 0xA700]
    run, _ = copied(report[0])
    service = serving(settings_of(tmp_path, checkpoint, destinations), run)
    send(as_study(folder, "1.2.3"), service.receiver.port)
    until(lambda: states(service) == {"done": 1})
    assert len(archive.objects) == 2 and sum(archive.times.values()) == 5
    told = page_of(service, "/metrics")
    assert 'pe_unified_sendings_total{destination="archive",outcome="sent"} 2.0' in told
    assert 'pe_unified_sendings_total{destination="archive",outcome="failed"} 3.0' in told


def test_duplicates_that_an_archive_refuses_are_there(
    folder, checkpoint, tmp_path, archive, destinations, serving, until, report
):
    archive.answers = [0x0111, 0x0111]
    run, _ = copied(report[0])
    service = serving(settings_of(tmp_path, checkpoint, destinations), run)
    send(as_study(folder, "1.2.3"), service.receiver.port)
    until(lambda: states(service) == {"done": 1})
    assert sum(archive.times.values()) == 2


def test_what_ends_its_worker_is_tried_again_then_given_up(
    folder, checkpoint, tmp_path, archive, destinations, serving, until
):
    asked = []

    def run(request):
        asked.append(request)
        raise WorkerDied

    service = serving(settings_of(tmp_path, checkpoint, destinations, crashes=2), run)
    send(as_study(folder, "1.2.3"), service.receiver.port)
    until(lambda: states(service) == {"failed": 1})
    assert len(asked) == 2 and "out of memory" in page_of(service, "/")


def test_rules_decide_and_other_objects_are_taken_and_dropped(
    folder, checkpoint, tmp_path, archive, destinations, serving, until, report
):
    rules = [
        {"name": "scouts", "where": {"description": "scout"}, "do": "ignore"},
        {"name": "urgent", "where": {"description": "urgent"}, "do": "analyse", "priority": 9},
    ]
    run, asked = copied(report[0])
    service = serving(settings_of(tmp_path, checkpoint, destinations, rules=rules), run)
    wanted = as_study(folder, "1.1", SeriesDescription="Urgent CTPA")
    scout = as_study(folder, "1.1", SeriesDescription="scout", SeriesInstanceUID="1.1.9")[:2]
    for each in scout:
        each.SOPInstanceUID = generate_uid()
    other = as_study(folder, "1.2", SeriesDescription="thorax")
    segmentation = pydicom.dcmread(report[0] / "mask.seg.dcm")
    found = send([*wanted, *scout, *other, segmentation], service.receiver.port)
    assert set(found) == {0}
    until(lambda: states(service) == {"done": 1, "skipped": 1})
    (request,) = asked
    assert request.study == "1.1" and len(list(request.images.rglob("*.dcm"))) == len(wanted)
    # More images may make a rule want the other series as well.
    kept = list(service.spool.images(service.spool.key("1.1")).rglob("*.dcm"))
    assert len(kept) == len(wanted) + len(scout)
    assert "urgent" in page_of(service, "/")
    assert 'pe_unified_images_total{outcome="dropped"} 1.0' in page_of(service, "/metrics")


def test_a_study_without_uids_is_refused(folder, checkpoint, tmp_path, destinations, serving):
    service = serving(settings_of(tmp_path, checkpoint, destinations), analyse)
    (first, *_) = as_study(folder, "1.2.3")
    first.StudyInstanceUID = ""
    assert send([first], service.receiver.port) == [0xA900]
    assert states(service) == {}


def test_strangers_are_rejected(folder, checkpoint, tmp_path, destinations, serving):
    receive = {"port": 0, "host": "127.0.0.1", "allow": ["SCANNER"]}
    service = serving(settings_of(tmp_path, checkpoint, destinations, receive=receive), analyse)
    first = as_study(folder, "1.2.3")[:1]
    assert send(first, service.receiver.port, calling="SCANNER") == [0]
    for names in ({"calling": "STRANGER"}, {"calling": "SCANNER", "title": "OTHER"}):
        assert send(first, service.receiver.port, **names) is None


def test_a_full_disk_refuses_images_and_is_told(
    folder, checkpoint, tmp_path, destinations, serving
):
    keep = {"least_free_gb": 1e9}
    service = serving(settings_of(tmp_path, checkpoint, destinations, keep=keep), analyse)
    assert send(as_study(folder, "1.2.3")[:1], service.receiver.port) == [0xA700]
    with pytest.raises(urllib.error.HTTPError, match="503"):
        page_of(service, "/health")


def test_by_dicomweb_there_and_back(folder, checkpoint, tmp_path, serving, until, report):
    slices = as_study(folder, "1.2.3")
    paths = []
    for number, each in enumerate(slices):
        paths.append(tmp_path / f"{number}.dcm")
        each.save_as(paths[-1])
    web = WebArchive(paths)
    web.failing = 2
    run, asked = copied(report[0])
    settings = settings_of(
        tmp_path,
        checkpoint,
        [{"name": "web", "web": {"url": web.url}}],
        receive=None,
        poll=[{"name": "pacs", "web": {"url": web.url}, "every_s": 0.05}],
    )
    service = serving(settings, run)
    until(lambda: states(service) == {"done": 1})
    assert len(asked) == 1 and len(web.stored) == 2
    assert all(len(times) == 1 for times in web.stored.values())
    images = sorted(asked[0].images.rglob("*.dcm"))
    got = {pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path) for path in images}
    assert {each.SOPInstanceUID: each.PixelData for each in slices} == {
        uid: each.PixelData for uid, each in got.items()
    }
    # What came back is no news, nor is a second look of a service that starts anew.
    service.close()
    web.duplicates = True
    again = serving(settings, run)
    until(lambda: web.asked.count("studies") > 4)
    assert states(again) == {"done": 1} and len(asked) == 1
    # One more slice is.
    late = pydicom.dcmread(paths[0])
    late.SOPInstanceUID = "1.2.3.99"
    web.files.append(late)
    until(lambda: len(asked) == 2 and states(again) == {"done": 1})
    assert len(web.stored) == 4


def test_results_are_stored_though_the_answer_was_lost(
    folder, checkpoint, tmp_path, serving, until, report
):
    web = WebArchive()
    web.failing, web.duplicates = 1, True
    run, _ = copied(report[0])
    send_to = [{"name": "web", "web": {"url": web.url}}]
    service = serving(settings_of(tmp_path, checkpoint, send_to), run)
    send(as_study(folder, "1.2.3"), service.receiver.port)
    until(lambda: states(service) == {"done": 1})
    assert {len(times) for times in web.stored.values()} == {1}
    assert 'outcome="failed"} 2.0' in page_of(service, "/metrics")


def test_through_the_real_analysis_and_only_results_tell_the_patient(
    folder, checkpoint, tmp_path, archive, destinations, serving, until, keep_picture, request
):
    destinations[0]["objects"] = ["seg", "sr", "key_images"]
    study, stream = "1.2.826.0.1.3680043.8.498.77", StringIO()
    log_to(stream)
    try:
        service = serving(settings_of(tmp_path, checkpoint, destinations), analyse)
        person = {"PatientName": "DÖE^JANE", "PatientID": "MRN-4711", "AccessionNumber": "ACC-9"}
        person["SpecificCharacterSet"] = "ISO_IR 100"
        slices = as_study(folder, study, **person)
        assert set(send(slices, service.receiver.port)) == {0}
        broken = as_study(folder, f"{study}.2", **person)
        for each in broken:
            each.PixelData = each.PixelData[:100]
        send(broken, service.receiver.port)
        until(lambda: states(service) == {"done": 1, "failed": 1})
        told = [page_of(service, path) for path in ("/", "/health", "/metrics")]
        if CHROMIUM is not None and request.config.getoption("--pictures"):
            with Chromium(1100, 400) as screen:
                screen.open(f"http://127.0.0.1:{service.page.port}/")
                screen.screenshot(tmp_path / "status.png")
            keep_picture(tmp_path / "status.png", "pacs_status.png")
    finally:
        own = logging.getLogger("pe_unified.archive")
        own.handlers, own.propagate = [], True
    kinds = [each.SOPClassUID.name for each in archive.objects.values()]
    assert kinds.count("Segmentation Storage") == kinds.count("Comprehensive 3D SR Storage") == 1
    assert kinds.count("Secondary Capture Image Storage") >= 1
    assert {each.StudyInstanceUID for each in archive.objects.values()} == {study}
    for keyword in ("PatientName", "PatientID", "AccessionNumber"):
        found = {str(each[keyword].value) for each in archive.objects.values()}
        assert found == {person[keyword]}
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    events = {line["event"] for line in lines}
    assert {"study complete", "study analysed", "results sent", "study failed"} <= events
    keys = [service.spool.key(study), service.spool.key(f"{study}.2")]
    assert {line.get("study") for line in lines} >= set(keys) and keys[0] in told[0]
    for text in (*told, stream.getvalue()):
        for word in ("JANE", "4711", "ACC-9", study, str(slices[0].SOPInstanceUID)):
            assert word not in text


def test_the_folder_is_closed_to_others_and_to_a_second_service(
    checkpoint, tmp_path, destinations, serving
):
    settings = settings_of(tmp_path, checkpoint, destinations)
    settings.folder.mkdir()
    serving(settings, analyse)
    assert settings.folder.stat().st_mode & 0o777 == 0o700  # of patients
    with pytest.raises(ArchiveError, match="another pe-unified pacs runs in"):
        Service(settings, analyse)


def test_files_of_finished_studies_are_cleared_away_and_it_stays_done(
    folder, checkpoint, tmp_path, archive, destinations, serving, until, report
):
    keep = {"least_free_gb": 0, "images_days": 0, "reports_days": 90}
    run, asked = copied(report[0])
    service = serving(settings_of(tmp_path, checkpoint, destinations, keep=keep), run)
    slices = as_study(folder, "1.2.3")
    send(slices, service.receiver.port)
    until(lambda: states(service) == {"done": 1})
    service.tidy()
    key = service.spool.key("1.2.3")
    assert not asked[0].images.exists()
    assert not service.spool.images(key).exists() and service.spool.report(key).exists()
    send(slices, service.receiver.port)
    assert states(service) == {"done": 1} and len(asked) == 1
    service.tidy()
    # A new image alone is no study: the others are gone.
    late = as_study(folder, "1.2.3", SOPInstanceUID="1.2.3.99")[:1]
    send(late, service.receiver.port)
    until(lambda: states(service) == {"failed": 1})
    assert "send the whole study again" in page_of(service, "/")
    send([*slices, *late], service.receiver.port)
    until(lambda: states(service) == {"done": 1} and len(asked) == 2)
