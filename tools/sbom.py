"""Write a bill of materials (CycloneDX, JSON) of the package and all its dependencies.

It lists the packages in this environment that the package and the named extras need, with
versions, licences and dependencies. cyclonedx-py reads the environment; uv fetches it into a
separate environment. If a package states its licence only in words or as a full text, this program
adds it.

Usage: make sbom, or python tools/sbom.py [OUT] [--extras cluster,export,pacs]
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pe_unified.files import write_text
from pe_unified.version import __version__

ROOT = Path(__file__).resolve().parents[1]
CYCLONEDX = "cyclonedx-bom>=7,<8"
#: This package states no licence; it only names NVIDIA's libraries.
UNSAID = {"cuda-toolkit": "NVIDIA Proprietary Software"}
#: Licences, and words in their texts.
TEXTS = {"Apache-2.0": r"Apache License\s+Version 2\.0", "MIT": r"Permission is hereby granted"}


def environment_bom() -> dict[str, Any]:
    """The bill of materials of all that is installed in this interpreter's environment."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bom.json"
        uv = [str(Path(sys.executable).with_name("uv")), "tool", "run", "--quiet"]
        words = ["--from", CYCLONEDX, "cyclonedx-py", "environment", sys.executable]
        project = ["--pyproject", str(ROOT / "pyproject.toml")]
        subprocess.run([*uv, *words, *project, "-o", str(out)], check=True)
        return json.loads(out.read_text("utf-8"))


def requirements(extras: Sequence[str]) -> list[str]:
    """The direct requirements of the package and its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    own = [project["optional-dependencies"][extra] for extra in extras]
    return [*project["dependencies"], *chain.from_iterable(own)]


def required(lines: Iterable[str]) -> dict[str, set[str]]:
    """All dependencies of requirements: by canonical name, the names that each needs directly.

    Their markers must hold and their extras be requested. What is not installed needs nothing.
    """
    needs: dict[str, set[str]] = {}
    waiting = [(line, "", frozenset[str]()) for line in lines]
    seen = set()
    while waiting:
        line, owner, extras_of_owner = waiting.pop()
        requirement = Requirement(line)
        environments = [{"extra": extra} for extra in ("", *extras_of_owner)]
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate(each) for each in environments):
            continue
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        needs.setdefault(name, set())
        if owner:
            needs[owner].add(name)
        if (name, extras) not in seen:
            seen.add((name, extras))
            with suppress(PackageNotFoundError):
                waiting += [(each, name, extras) for each in distribution(name).requires or ()]
    return needs


def pruned(bom: dict[str, Any], lines: Sequence[str]) -> dict[str, Any]:
    """Only the dependencies of requirements, without tools for tests."""
    needs = required(lines)
    found = {canonicalize_name(part["name"]): part for part in bom["components"]}
    parts = {name: part for name, part in found.items() if name in needs}

    def references(names: Iterable[str]) -> list[str]:
        return sorted(parts[name]["bom-ref"] for name in names if name in parts)

    direct = {canonicalize_name(Requirement(line).name) for line in lines}
    graph = [{"ref": bom["metadata"]["component"]["bom-ref"], "dependsOn": references(direct)}]
    graph += [
        {"ref": part["bom-ref"], "dependsOn": references(needs[name])}
        for name, part in sorted(parts.items())
    ]
    return {**bom, "components": [parts[name] for name in sorted(parts)], "dependencies": graph}


def licence_in_words(package: Distribution) -> str:
    """What a package says about its licence outside the usual fields; may be empty."""
    said = (package.metadata.get("License") or "").strip()
    if said and "\n" not in said:
        return said
    texts = [said]
    texts += [
        file.locate().read_text("utf-8", errors="replace")
        for file in package.files or ()
        if file.name in package.metadata.get_all("License-File", ())
    ]
    for name, words in TEXTS.items():
        if any(re.search(words, text) for text in texts):
            return name
    return UNSAID.get(canonicalize_name(package.name), "")


def with_licences(bom: dict[str, Any]) -> dict[str, Any]:
    """Fill in the licences that packages state in words."""
    parts = []
    for part in bom["components"]:
        if not part.get("licenses"):
            try:
                said = licence_in_words(distribution(part["name"]))
            except PackageNotFoundError:
                said = ""
            if said:
                part = {**part, "licenses": [{"license": {"name": said}}]}
        parts.append(part)
    return {**bom, "components": parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=Path("sbom.cdx.json"))
    parser.add_argument("--extras", default="cluster,export,pacs")
    args = parser.parse_args()
    bom = with_licences(pruned(environment_bom(), requirements(args.extras.split(","))))
    bom["metadata"]["component"]["version"] = __version__
    write_text(args.out, json.dumps(bom, indent=1) + "\n")
    unknown = [part["name"] for part in bom["components"] if not part.get("licenses")]
    print(f"{args.out}: {len(bom['components'])} packages", end="")
    print(f"; no licence stated: {', '.join(unknown)}" if unknown else ", all with their licences")


if __name__ == "__main__":
    main()
