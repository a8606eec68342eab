"""Servers over the report of the painted study."""

import shutil
from types import SimpleNamespace

import pytest
from serving import ask, serving

from pe_unified.benchmarks.chromium import Chromium


@pytest.fixture(scope="module")
def page():
    """A browser."""
    with Chromium(1300, 800) as chromium:
        yield chromium


def _served(url):
    (row,) = ask(url, "/api/worklist").json["studies"]
    return SimpleNamespace(url=url, key=row["key"], study=f"/api/studies/{row['key']}")


@pytest.fixture
def reports(report, tmp_path):
    """A folder of one report, under the name of its study."""
    return shutil.copytree(report[0], tmp_path / "reports" / "PAT001").parent


@pytest.fixture
def served(reports, folder):
    """A server of these reports."""
    with serving(reports, studies=(folder.parent,)) as url:
        yield _served(url)


@pytest.fixture(scope="module")
def asked_only(report, folder, tmp_path_factory):
    """A server for tests that change nothing."""
    root = tmp_path_factory.mktemp("asked") / "reports"
    shutil.copytree(report[0], root / "PAT001")
    with serving(root, studies=(folder.parent,)) as url:
        yield _served(url)
