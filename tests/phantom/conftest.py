"""Sets that are painted with the same arguments paint each study once."""

import functools

import pytest

from pe_unified.phantom import sets


@pytest.fixture(autouse=True, scope="module")
def painted_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sets, "paint_study", functools.cache(sets.paint_study))
        yield
