"""Fixtures that every test may use."""

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real masks beside the repository; skips where it is absent."""
    if not _SHARED.is_dir():
        pytest.skip("no ../shared/data: the tests on real masks are skipped")
    return _SHARED
