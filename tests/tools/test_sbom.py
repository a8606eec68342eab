"""The bill of materials: what it keeps of an environment, and all of it once."""

import json
import sys

import pytest
from packaging.utils import canonicalize_name


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("sbom")


def test_what_only_tests_need_is_left_out(tool):
    parts = [
        {"bom-ref": f"{name}==1", "name": name}
        for name in ("pynetdicom", "pydicom", "pytest", "hypothesis")
    ]
    bom = {"metadata": {"component": {"bom-ref": "root"}}, "components": parts}
    found = tool.pruned(bom, ["pynetdicom>=3", "nowhere; python_version < '3'"])
    assert [part["name"] for part in found["components"]] == ["pydicom", "pynetdicom"]
    needs = {each["ref"]: each["dependsOn"] for each in found["dependencies"]}
    assert needs == {
        "root": ["pynetdicom==1"],
        "pynetdicom==1": ["pydicom==1"],
        "pydicom==1": [],
    }


def test_licences_in_words_are_added_and_others_stay(tool):
    parts = [{"name": "torchvision"}, {"name": "numpy", "licenses": ["own"]}, {"name": "none"}]
    found = tool.with_licences({"components": parts})["components"]
    assert found[0]["licenses"] == [{"license": {"name": "BSD"}}]
    assert found[1:] == parts[1:]


@pytest.mark.slow
def test_the_whole_bill(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sbom.py", str(tmp_path / "sbom.json")])
    tool.main()
    bom = json.loads((tmp_path / "sbom.json").read_text())
    assert bom["bomFormat"] == "CycloneDX" and bom["metadata"]["component"]["version"]
    names = {canonicalize_name(part["name"]) for part in bom["components"]}
    assert {"torch", "pydicom", "pynetdicom", "onedl-mmengine"} <= names
    assert not {"pytest", "ruff", "mypy", "hypothesis"} & names
    assert all(part["version"] and part["licenses"] for part in bom["components"])
    references = {part["bom-ref"] for part in bom["components"]}
    assert {each for part in bom["dependencies"] for each in part["dependsOn"]} == references
