"""Fixtures that every test may use."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

_REPOSITORY = Path(__file__).resolve().parents[1]
_SHARED = _REPOSITORY.parent / "shared" / "data"
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "engine")]

from tiny_dataset import write_tiny_dataset  # noqa: E402


@pytest.fixture(autouse=True)
def own_default_scope() -> Iterator[None]:
    """mmengine's default scope is global; no test leaves its own to the next one."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return _REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real masks beside the repository; skips where it is absent."""
    if not _SHARED.is_dir():
        pytest.skip("no ../shared/data: the tests on real masks are skipped")
    return _SHARED


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted data set of 9 patients with 6 slices of 64 x 64 each; do not write into it."""
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny") / "data")
