"""A model for tests of many studies, and batches without a process of their own."""

from contextlib import nullcontext

import pytest
from studies import write_checkpoint

from pe_unified.inference.predictor import PredictorSettings
from pe_unified.reports import batch
from pe_unified.workers import SerialExecutor


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """It only classifies: what takes longest is to describe lesions."""
    path = write_checkpoint(tmp_path_factory.mktemp("model") / "m.pth", ("cls",))
    return PredictorSettings(str(path), device="cpu", precision="fp32")


@pytest.fixture
def in_this_process(monkeypatch):
    """A worker process takes most of a second to get going."""
    monkeypatch.setattr(batch, "_open", lambda *_: nullcontext((SerialExecutor(), 1)))
