"""What docs/architecture.md says: its examples run, and imports run one way."""

import ast
import re

from mmengine.registry import DefaultScope

from pe_unified.registry import MODELS

#: Rooms from the ground up: each may import from itself and those before it.
ROOMS = (
    *("ct", "datasets", "evaluation", "models", "converters", "phantom"),
    *("inference", "reports", "archive", "cards", "engine", "audit", "recipes"),
    *("review", "serve", "benchmarks", "cli"),
)


def imported_rooms(path):
    """Rooms of the package that a file imports from, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        elif isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "pe_unified" and rest.partition(".")[0] in ROOMS:
                yield rest.partition(".")[0]


def test_imports_run_one_way(repository):
    uphill = [
        f"{path.relative_to(repository)} imports from {found}"
        for floor, room in enumerate(ROOMS)
        for path in (repository / "pe_unified" / room).rglob("*.py")
        for found in set(imported_rooms(path))
        if ROOMS.index(found) > floor
    ]
    assert uphill == []


def test_what_all_rooms_share_knows_of_none(repository):
    for path in (repository / "pe_unified").glob("*.py"):
        if path.stem not in ("testing", "__main__"):
            assert set(imported_rooms(path)) == set(), path.name


def test_the_examples_run(repository, tmp_path, monkeypatch):
    text = (repository / "docs/architecture.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rooms = text[text.index("## A window") :].split("\n## ")
    assert [room.split("\n")[0] for room in rooms if "```python" not in room] == []
    monkeypatch.chdir(tmp_path)
    MODELS.import_from_location()  # what the examples register is forgotten, all else stays
    monkeypatch.setattr(MODELS, "_module_dict", dict(MODELS._module_dict))
    names = {"__name__": "examples"}
    with DefaultScope.overwrite_default_scope("pe_unified"):
        for example in examples:
            exec(compile(example, "docs/architecture.md", "exec"), names)
