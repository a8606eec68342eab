"""The command lines around readers' decisions: what they print, and their exit status."""

import sys

from review_reports import decision, write_report

from pe_unified import cli
from pe_unified.review.store import ReviewStore


def call(called, *words):
    return called(cli.main, "pe-unified", *words)


def test_an_export_that_leaves_nothing_out(called, tmp_path):
    write_report(tmp_path / "reports" / "one")
    ReviewStore(tmp_path / "reports").add(decision("accept", 1))
    done = call(called, "review", "export", tmp_path / "reports", "--out", tmp_path / "out")
    assert done.returncode == 0 and "need images: add --studies" in done.stdout
    assert "accept" in (tmp_path / "out" / "decisions.csv").read_text()


def test_an_export_says_what_it_leaves_out(called, tmp_path):
    write_report(tmp_path / "reports" / "one")
    ReviewStore(tmp_path / "reports").add(decision("accept", 1))
    (tmp_path / "ct" / "one").mkdir(parents=True)
    words = ("--studies", tmp_path / "ct", "--out", tmp_path / "out")
    done = call(called, "review", "export", tmp_path / "reports", *words)
    assert done.returncode == 1 and "studies corrected: 0, left out: 1" in done.stdout
    assert "1.2.3: is not done; finish reading it" in done.stderr


def test_a_damaged_report_is_named_and_the_others_are_done(called, tmp_path):
    """One that cannot be read, and one that lacks what is needed."""
    reports = tmp_path / "reports"
    for name in ("a", "b", "c"):
        write_report(reports / name, study=f"1.{name}")
    for name in ("a", "b"):
        ReviewStore(reports).add(decision("accept", 1, study=f"1.{name}"))
    (reports / "a" / "report.json").write_text("{")
    done = call(called, "review", "export", reports, "--out", tmp_path / "out")
    assert done.returncode == 1 and "a/report.json: no readable report" in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    kept = (tmp_path / "out" / "decisions.csv").read_text()
    assert "1.a" in kept and "1.b" in kept, "the whole history"
    assert "Ann" in (tmp_path / "out" / "readers.csv").read_text()
    done = call(called, "suggest", reports, "--out", tmp_path / "next.csv")
    assert done.returncode == 1 and "a/report.json: no readable report" in done.stderr
    assert "c/report.json: the report lacks values that this version needs" in done.stderr
    assert "b/report.json" not in done.stderr, "it is read already"
    assert (tmp_path / "next.csv").read_text().startswith("rank,")


def test_errors_end_in_one_line(called, tmp_path):
    for words in (
        ("review", "export", tmp_path / "nowhere", "--out", tmp_path / "out"),
        ("suggest", tmp_path / "nowhere"),
        ("errors", "m.pth", "--data-root", tmp_path / "nowhere", "--out", tmp_path / "out"),
    ):
        done = call(called, *words)
        assert done.returncode == 1 and done.stderr.startswith("error: "), words
        assert "nowhere" in done.stderr and done.stderr.count("\n") == 1


def test_a_group_of_commands_is_explained(called, monkeypatch):
    assert "review export" in call(called, "review").stdout
    assert call(called, "review", "--help").returncode == 0
    typo = call(called, "review", "exprt")
    assert typo.returncode == 2 and "did you mean review export?" in typo.stderr
    assert sys.argv[0] == "pe-unified"
