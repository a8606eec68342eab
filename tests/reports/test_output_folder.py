import os

from pe_unified.reports import files


def test_the_report_is_the_last_file_to_appear(tmp_path, monkeypatch):
    """Where it is, the rest is whole."""
    placed = []
    replace = os.replace
    monkeypatch.setattr(
        files.os, "replace", lambda one, other: placed.append(other.name) or replace(one, other)
    )
    with files.output_folder(tmp_path / "out") as partial:
        for name in (files.REPORT, files.PAGE, files.MASK, "zzz.dcm"):
            (partial / name).write_text("x")
        assert not (tmp_path / "out" / files.REPORT).exists()
    assert sorted(placed[:-1]) == sorted([files.PAGE, files.MASK, "zzz.dcm"])
    assert placed[-1] == files.REPORT
