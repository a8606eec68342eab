"""The command: what it says, whom it lets in, how it ends; and studies that come in."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import quote
from urllib.request import HTTPCookieProcessor, HTTPSHandler, build_opener

import pytest
from serving import ask, serving

from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.serve import incoming
from pe_unified.serve.incoming import analysed


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_the_command_serves_by_tls_and_ends(reports, tmp_path):
    pair = [tmp_path / "cert.pem", tmp_path / "key.pem"]
    openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"]
    openssl += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", pair[0], "-keyout", pair[1]]
    subprocess.run(openssl, check=True, capture_output=True)
    command = [sys.executable, "-m", "pe_unified", "serve", reports, "--port", "0", "--token"]
    command += ["--tls-cert", pair[0], "--tls-key", pair[1]]
    token = "a+token/of&ones own=="
    environment = os.environ | {"PE_UNIFIED_TOKEN": token}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        line, notice = process.stdout.readline(), process.stdout.readline()
        url, _, query = line.split()[1].partition("?")
        assert url.startswith("https://127.0.0.1:") and query == f"token={quote(token)}"
        trusting = ssl.create_default_context(cafile=pair[0])
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(url, context=trusting)
        cookies = HTTPCookieProcessor()
        opener = build_opener(HTTPSHandler(context=trusting), cookies)
        assert opener.open(f"{url}?{query}").status == 200
        assert opener.open(f"{url}api/worklist").status == 200
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "decisions are kept" in err
    assert notice.strip() == RESEARCH_LINE


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "no such file"),
        (["REPORTS", "--tls-cert", "x", "--tls-key", "y"], "TLS"),
        (["REPORTS", "--studies", "REPORTS", "--model", "m.pth"], "m.pth: no such file"),
        (["REPORTS", "--cache", "nowhere"], "nowhere: no such file"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(called, reports, words, told):
    from pe_unified.cli import serve

    words = [str(reports) if word == "REPORTS" else word for word in words]
    done = called(serve.main, "pe-unified serve", *words, "--port", "0")
    assert done.returncode == 1 and told in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_studies_that_come_in_get_a_report_and_appear(folder, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(incoming, "_QUIET_S", 0.2)
    studies, reports = tmp_path / "studies", tmp_path / "reports"
    studies.mkdir()
    reports.mkdir()
    with serving(reports) as url, analysed([studies], reports, checkpoint):
        assert ask(url, "/api/worklist").json["studies"] == []
        shutil.copytree(folder, studies / "new")
        for _ in range(600):
            rows = ask(url, "/api/worklist").json["studies"]
            if rows:
                break
            time.sleep(0.1)
        assert [row["slices"] for row in rows] == [16]
    assert json.loads((reports / "new" / "report.json").read_text())["input"]["slices"] == 16
