"""Files for others' programs: text in UTF-8 whatever the machine's locale, CSV, strict JSON."""

import ast
import csv
import io
import json
import subprocess
from pathlib import Path

import pytest

from pe_unified.csv_files import csv_text
from pe_unified.json_files import write_json
from pe_unified.registry import VISBACKENDS

_TEXT_CALLS = {"open", "read_text", "write_text"}


def without_encoding(source: str) -> list[int]:
    """Lines that open a text file in whatever encoding the machine has."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if method else getattr(node.func, "id", "")
        if name not in _TEXT_CALLS or (name == "write_text" and not method):
            continue  # a function of that name of ours always writes UTF-8
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        texts = [each.value for each in given if isinstance(each, ast.Constant)]
        modes = [text for text in texts if isinstance(text, str)]
        named = any(keyword.arg == "encoding" for keyword in node.keywords)
        if name == "open":
            # A method may be another kind of opening; a mode tells that it is a file.
            fine = named or any("b" in mode for mode in modes) or (method and not modes)
        else:
            fine = named or "utf-8" in modes
        if not fine:
            lines.append(node.lineno)
    return lines


def test_the_scan_sees_what_it_looks_for():
    assert without_encoding("p.read_text()\nopen(p)\np.write_text('x')\np.open('w')") == [
        1,
        2,
        3,
        4,
    ]
    fine = "p.read_text('utf-8')\nopen(p, 'rb')\nopen(p, encoding='utf-8')\nimage.open()"
    assert without_encoding(fine) == []


def test_every_text_file_names_its_encoding(repository):
    command = ["git", "ls-files", "-co", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout")
    rooms = ("pe_unified/", "data_converters/", "tools/", "configs/")
    paths = [repository / name for name in listed.stdout.split() if name.startswith(rooms)]
    assert len(paths) > 100
    found = {
        str(path.relative_to(repository)): lines
        for path in paths
        if path.is_file() and (lines := without_encoding(path.read_text(encoding="utf-8")))
    }
    assert not found


def test_a_spreadsheet_runs_no_cell():
    texts = ["=1+1", "@SUM(A1)", "-case", "+49 89", "\tx", "case=1", "-12.5", ""]
    rows = [{"study": text, "score": -0.5, "left out": 1} for text in texts]
    table = csv_text(["study", "score"], rows)
    assert table.isascii()
    read = list(csv.DictReader(io.StringIO(table)))
    assert [row["study"] for row in read] == [
        *("'=1+1", "'@SUM(A1)", "'-case", "'+49 89", "'\tx", "case=1", "-12.5", "")
    ]
    assert {row["score"] for row in read} == {"-0.5"}


def test_letters_come_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "summary.csv"
    path.write_text(csv_text(["study"], [{"study": "Müller"}]), encoding="utf-8")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert [row["study"] for row in csv.DictReader(file)] == ["Müller"]


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def test_logs_and_metrics_are_strict_json(tmp_path):
    backend = VISBACKENDS.build(dict(type="LocalVisBackend", save_dir=str(tmp_path)))
    backend.add_scalars({"loss": float("nan"), "grad": float("inf"), "lr": 0.1}, step=3)
    backend.add_scalar("auc", float("-inf"), step=3)
    lines = Path(tmp_path / "scalars.json").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line, parse_constant=refuse) for line in lines]
    assert found[0] == {"loss": None, "grad": None, "lr": 0.1, "step": 3}
    assert found[1]["auc"] is None
    write_json(tmp_path / "metrics.json", {"cls/auc": float("nan"), "ci": [float("inf"), 1]})
    text = (tmp_path / "metrics.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == {"cls/auc": None, "ci": [None, 1]}
