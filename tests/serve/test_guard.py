"""Who is let in, and what of: no page of another site, no path out of the folder."""

import json
import shutil
from urllib.parse import urlsplit

import pytest
from serving import OWN, ask, serving

from pe_unified.cli.serve import make_parser, serve_options
from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.errors import UserError
from pe_unified.serve.app import STATIC
from pe_unified.serve.guard import Buckets, is_loopback


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8450", 200),
        ("evil.example", 400),
        ("evil.example:8450", 400),
        ("127.0.0.1.evil.example", 400),
        ("localhost@evil.example", 400),
        ("", 400),
        ("[::1]:8450", 400),
    ],
)
def test_only_this_machines_own_names_are_answered(asked_only, host, status):
    """A page of another site, whose name was made to lead here, says that name."""
    assert ask(asked_only.url, "/api/worklist", Host=host).status == status
    assert ask(asked_only.url, "/", Host=host).status == status


def test_no_answer_lets_foreign_content_in(asked_only):
    for path in ("/", f"/read/{asked_only.key}", "/api/worklist", "/nothing", "/static/reader.js"):
        answer = ask(asked_only.url, path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy
        assert "unsafe" not in policy and "http" not in policy and "*" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
    assert ask(asked_only.url, asked_only.study).headers["cache-control"] == "no-store"


def test_pages_carry_no_inline_code_and_load_nothing_from_elsewhere():
    for page in STATIC.glob("*.html"):
        text = page.read_text("utf-8")
        assert RESEARCH_LINE in text
        assert "<script>" not in text and " style=" not in text and " onclick=" not in text
    for path in STATIC.iterdir():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and "//cdn" not in text
        assert ".innerHTML" not in text and "eval(" not in text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static/%2e%2e%2f%2e%2e%2fversion.py",
        "/static/..%5capp.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/read/../../etc/passwd",
        "/api/studies/../worklist.py",
        "/api/studies/..%2f..%2fetc%2fpasswd",
        "/api/studies/PAT001",
        "/api/studies/%00/mask",
        "/api/studies/..%2fPAT001/mask",
    ],
)
def test_no_path_leaves_the_folder(asked_only, path):
    answer = ask(asked_only.url, path)
    # Whatever key stands in an address, the page of a study is the same file.
    page = path.startswith("/read/") and answer.status == 200
    assert answer.status in (400, 404) or page
    assert b"root:" not in answer.body and b"def " not in answer.body


def test_links_out_of_the_folder_are_not_followed(served, reports, report, tmp_path):
    outside = tmp_path / "outside"
    shutil.copytree(report[0], outside)
    found = json.loads((outside / "report.json").read_text())
    found["input"]["study_uid"] = "1.2.3"
    (outside / "report.json").write_text(json.dumps(found))
    (reports / "link").symlink_to(outside)
    (reports / "file").mkdir()
    assert len(ask(served.url, "/api/worklist").json["studies"]) == 1
    (reports / "PAT001" / "mask.nii.gz").unlink()
    (reports / "PAT001" / "mask.nii.gz").symlink_to(outside / "mask.nii.gz")
    assert ask(served.url, f"{served.study}/mask").json == {}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Content-Type": "application/json"}, 403),
        ({"X-PE-Unified": "1", "Content-Type": "text/plain"}, 403),
        (OWN | {"Origin": "https://evil.example"}, 403),
        (OWN | {"Origin": "null"}, 403),
        (OWN | {"Sec-Fetch-Site": "cross-site"}, 403),
        (OWN | {"Sec-Fetch-Site": "same-site"}, 403),
        (OWN | {"Origin": "own", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_no_other_site_can_decide(served, headers, status):
    told = ask(served.url, served.study).json
    body = {"reader": "Ada", "kind": "accept", "lesion": 1, "seen": 0}
    body |= {"model": told["model"]["sha256"]}
    if headers.get("Origin") == "own":
        headers = headers | {"Origin": f"http://{urlsplit(served.url).netloc}"}
    path = f"{served.study}/decisions"
    assert ask(served.url, path, "POST", json.dumps(body), **headers).status == status
    kept = ask(served.url, f"{served.study}?reader=Ada").json["decisions"]
    assert len(kept) == (status == 200)


def test_another_site_cannot_take_in_what_is_read(asked_only):
    for mode in ("no-cors", "cors"):
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode}
        assert ask(asked_only.url, "/api/worklist", **headers).status == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ask(asked_only.url, "/", **link).status == 200


def test_what_is_too_long_is_not_read(asked_only):
    path = f"{asked_only.study}/decisions"
    assert ask(asked_only.url, path, "POST", None, **OWN, Content_Length=str(1 << 40)).status == 413
    chunked = ask(asked_only.url, path, "POST", iter([b"{}"]), **OWN)
    assert chunked.status == 411


def test_the_token_opens_and_nothing_else_does(reports):
    with serving(reports, token="s" * 20) as url:
        assert ask(url, "/").status == 401
        assert ask(url, "/api/worklist").status == 401
        assert ask(url, "/static/reader.js").status == 401
        assert ask(url, "/", Cookie="pe_unified_token=wrong").status == 401
        opened = ask(url, f"/?token={'s' * 20}")
        assert opened.status == 303 and opened.headers["location"] == "/"
        cookie = opened.headers["set-cookie"]
        assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
        assert ask(url, "/api/worklist", Cookie=cookie.partition(";")[0]).status == 200
        wrong = [ask(url, f"/?token=wrong{number}").status for number in range(12)]
        assert wrong[:10] == [401] * 10 and wrong[10:] == [429, 429]
        assert ask(url, f"/?token={'s' * 20}").status == 429, "guessing has ended"
        assert ask(url, "/api/worklist", Cookie=cookie.partition(";")[0]).status == 200


def test_an_address_of_version_6_is_answered(reports):
    with serving(reports, hosts=("[::1]",)) as url:
        assert ask(url, "/api/worklist", Host="[::1]:8450").status == 200
        assert ask(url, "/api/worklist", Host="[::2]:8450").status == 400


def test_buckets_fill_up_again():
    now = [100.0]
    buckets = Buckets(burst=3, per_second=0.5, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]
    assert buckets.take("b")
    now[0] += 2
    assert buckets.take("a") and not buckets.take("a")
    now[0] += 1000
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]


def test_other_machines_may_ask_only_so_often(reports):
    with serving(reports, remote=True) as url:
        statuses = [ask(url, "/nothing").status for _ in range(750)]
    assert statuses[:600] == [404] * 600 and 429 in statuses


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--address", "10.0.0.7"], "--token, --tls-cert and --tls-key"),
        (["--address", "10.0.0.7", "--token"], "--token, --tls-cert and --tls-key"),
        (["--address", "0.0.0.0", "--tls-cert", "c", "--tls-key", "k"], "--token"),
        (["--address", "0.0.0.0", "--token", "--tls-cert", "c", "--tls-key", "k"], "--names"),
        (["--tls-cert", "c"], "go together"),
        (["--model", "m.pth"], "--studies"),
    ],
)
def test_nobody_is_let_in_unasked(words, reason):
    with pytest.raises(UserError, match=reason):
        serve_options(make_parser().parse_args(["reports", *words]))


def test_a_short_token_is_refused(monkeypatch):
    monkeypatch.setenv("PE_UNIFIED_TOKEN", "short")
    with pytest.raises(UserError, match="fewer than 16"):
        serve_options(make_parser().parse_args(["reports", "--token"]))
    monkeypatch.delenv("PE_UNIFIED_TOKEN")
    asked = make_parser().parse_args(["reports", "--token"])
    first, second = serve_options(asked).token, serve_options(asked).token
    assert len(first) >= 32 and first != second


def test_hosts_follow_the_address():
    asked = [
        "r",
        "--address",
        "10.0.0.7",
        "--token",
        "--tls-cert",
        "c",
        "--tls-key",
        "k",
        "--names",
        "ct.example",
    ]
    options = serve_options(make_parser().parse_args(asked))
    assert options.hosts == ("ct.example", "10.0.0.7") and options.remote
    assert set(serve_options(make_parser().parse_args(["r"])).hosts) == {"127.0.0.1", "localhost"}
    options = serve_options(make_parser().parse_args(["r", "--names", "ct.example"]))
    assert options.hosts == ("127.0.0.1", "ct.example", "localhost")
    options = serve_options(make_parser().parse_args(["r", "--address", "::1"]))
    assert options.hosts[0] == "[::1]" and not options.remote


@pytest.mark.parametrize(
    ("address", "own"),
    [
        *((own, True) for own in ("127.0.0.1", "127.3.2.1", "::1", "localhost")),
        *((other, False) for other in ("0.0.0.0", "10.0.0.7", "::", "ct.example")),
    ],
)
def test_what_reaches_this_machine_alone(address, own):
    assert is_loopback(address) is own
