"""``pe-unified pacs`` as an engineer calls it."""

import logging
import re
import signal
import sys
import urllib.request

import pytest
import yaml
from archive_parts import WebArchive, settings_of
from processes import started, wait_until

from pe_unified.archive.store import Store
from pe_unified.cli import pacs


@pytest.fixture
def config(checkpoint, archive, tmp_path):
    settings_of(tmp_path, checkpoint, [{"name": "archive", "dicom": archive.node}])
    return tmp_path / "pacs.yaml"


@pytest.fixture
def pe_unified_pacs(called):
    """Call it with words."""
    return lambda *words: called(lambda: sys.exit(pacs.main()), "pe-unified pacs", *words)


def changed(config, **changes):
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **changes}))


def test_the_example_needs_nothing(pe_unified_pacs, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynetdicom", None)
    done = pe_unified_pacs("--example")
    assert done.returncode == 0 and yaml.safe_load(done.stdout)["receive"]["port"] == 11112


def test_a_missing_extra_names_the_cure(pe_unified_pacs, config, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("pe_unified.archive.")]:
        if not name.endswith("errors"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pynetdicom", None)
    done = pe_unified_pacs(config)
    assert done.returncode == 1
    assert done.stderr == "error: pe-unified pacs needs pynetdicom: pip install -e '.[pacs]'\n"


def test_check_says_what_is_well(pe_unified_pacs, config):
    done = pe_unified_pacs(config, "--check")
    assert done.returncode == 0, done.stdout
    assert "ok    model: answers cls, seg, det" in done.stdout
    assert "ok    send archive: C-ECHO: answers, takes seg, sr" in done.stdout
    assert done.stdout.endswith("nothing is wrong\n")


def test_check_says_what_is_wrong(pe_unified_pacs, config, archive):
    archive.server.ae.supported_contexts = []
    archive.server.ae.add_supported_context("1.2.840.10008.1.1")
    archive.server.contexts = archive.server.ae.supported_contexts
    nowhere = {"host": "127.0.0.1", "port": 1, "ae_title": "NOBODY", "timeout_s": 2}
    web = WebArchive()
    web.failing = 9
    changed(
        config,
        model={"checkpoint": "none.pth"},
        receive={"port": archive.port, "host": "127.0.0.1"},
        poll=[{"name": "web", "web": {"url": web.url}, "every_s": 0.05}],
        send=[
            {"name": "archive", "dicom": archive.node},
            {"name": "nowhere", "dicom": nowhere},
            {"name": "nobody", "web": {"url": "http://127.0.0.1:1/dicom-web"}},
        ],
    )
    done = pe_unified_pacs(config, "--check")
    assert done.returncode == 1 and done.stdout.endswith("6 of these are wrong\n")
    for said in (
        "none.pth: no such checkpoint",
        f"127.0.0.1:{archive.port} is not available",
        "answers with status 503",
        "answers, but does not accept seg, sr",
        "NOBODY at 127.0.0.1:1 cannot be reached",
        "http://127.0.0.1:1/dicom-web cannot be reached",
    ):
        assert said in done.stdout, done.stdout


def test_a_study_is_found_by_its_pseudonym_and_failed_ones_are_tried_again(
    pe_unified_pacs, config, tmp_path
):
    assert "no service has run" in pe_unified_pacs(config, "--find", "abc").stderr
    (tmp_path / "pacs").mkdir()
    store = Store(tmp_path / "pacs/queue.sqlite")
    store.add_images("1.2.3", "abc", "1.2.3.4", ["1"], {}, "SCANNER")
    store.decide("1.2.3", ["1.2.3.4"], "CT", 0)
    store.failed(store.take(), "damaged")
    done = pe_unified_pacs(config, "--find", "abc")
    assert re.search(r"^received: \d{4}-\d\d-\d\d \d\d:", done.stdout, re.MULTILINE)
    assert "uid: 1.2.3\n" in done.stdout and "reason: damaged\n" in done.stdout
    assert pe_unified_pacs(config, "--find", "none").returncode == 1
    assert "1 study is queued again" in pe_unified_pacs(config, "--retry").stdout
    assert store.state_of("1.2.3") == "arriving"
    store.close()


def test_mistakes_are_one_line(pe_unified_pacs, config):
    changed(config, sned=[])
    done = pe_unified_pacs(config)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "sned" in done.stderr


def test_a_port_that_is_taken_is_one_line(pe_unified_pacs, config, archive, capsys):
    changed(config, receive={"port": archive.port, "host": "127.0.0.1"})
    try:
        done = pe_unified_pacs(config)
    finally:
        own = logging.getLogger("pe_unified.archive")
        own.handlers, own.propagate = [], True
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "choose another receive.port" in last
    assert "Traceback" not in done.stderr


def test_sigterm_ends_it_in_peace(config, tmp_path):
    port = 0
    with (tmp_path / "log").open("w") as log:
        words = [sys.executable, "-m", "pe_unified", "pacs", config]
        with started(words, stdout=log, stderr=log) as process:

            def listens():
                return '"kind": "status"' in (tmp_path / "log").read_text()

            wait_until(listens, process)
            line = next(x for x in (tmp_path / "log").read_text().splitlines() if "status" in x)
            port = yaml.safe_load(line)["port"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert "No study has arrived yet" in answer.read().decode()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
