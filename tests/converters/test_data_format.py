"""The page on the format: it names every field, and its example is a set without a fault."""

import json
import re
from importlib.resources import files

from pe_unified.converters.inspection import inspect_set


def page(repository):
    return (repository / "docs/data_format.md").read_text(encoding="utf-8")


def test_every_field_of_the_schema_is_told(repository):
    schema = json.loads(
        files("pe_unified.converters.contract").joinpath("annotations.schema.json").read_text()
    )
    for kind, heading in (
        ("info", "info"),
        ("image", "images[]"),
        ("annotation", "annotations[]"),
        ("exam", "exams[]"),
    ):
        section = page(repository).split(f"\n## {heading}\n")[1].split("\n## ")[0]
        told = {
            name
            for line in section.splitlines()
            if line.startswith("| `")
            for name in re.findall(r"`(\w+)`", line.split("|")[1])
        }
        part = schema["definitions"][kind]
        assert set(part["required"]) | set(part["properties"]) <= told, heading
        # A field that the page calls absent at times is not required, and no other is left out.
        for line in section.splitlines():
            if line.startswith("| `") and kind != "exam":
                names = re.findall(r"`(\w+)`", line.split("|")[1])
                optional = "absent" in line
                assert all((name in part["required"]) != optional for name in names), line


def test_the_example_has_no_fault(repository, tmp_path, monkeypatch):
    (example,) = re.findall(r"^```python\n(.*?)^```", page(repository), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/data_format.md", "exec"), {})
    found = inspect_set(tmp_path / "data/by_hand")
    assert found.faults == []
    (warning,) = found.warnings
    assert warning.text == "P1: study study of P1: all of its 1 slices are positive"
