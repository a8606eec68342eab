"""A model for tests of many studies."""

import pytest
from studies import write_checkpoint

from pe_unified.inference.predictor import PredictorSettings


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """It only classifies: what takes longest is to describe lesions."""
    path = write_checkpoint(tmp_path_factory.mktemp("model") / "m.pth", ("cls",))
    return PredictorSettings(str(path), device="cpu", precision="fp32")
