"""The command that measures a threshold on a painted set."""

import json

import pytest


def test_it_prints_and_writes_a_row_for_each_case(load_tool, painted_set, tmp_path, capsys) -> None:
    tool = load_tool("threshold_baseline")
    converted, truth = painted_set
    out = tmp_path / "rows.json"
    assert tool.main([str(converted), "--truth", str(truth), "--out", str(out)]) == 0
    rows = json.loads(out.read_text())
    assert [(row["region"], row["median_filter"]) for row in rows] == [
        ("vessels", False),
        ("vessels", True),
        ("arteries", False),
        ("arteries", True),
    ]
    assert all(0 <= row["dice"] <= 1 and row["test_patients"] == 2 for row in rows)
    told = capsys.readouterr().out
    assert all(f"{row['dice']:.2f}" in told for row in rows)


def test_missing_truth_is_named_with_the_cure(load_tool, painted_set, tmp_path, capsys) -> None:
    tool = load_tool("threshold_baseline")
    with pytest.raises(SystemExit) as end:
        tool.main([str(painted_set[0]), "--truth", str(tmp_path)])
    assert end.value.code == 2
    assert "--truth" in capsys.readouterr().err
