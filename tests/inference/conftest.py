"""One small untrained model, one painted study and its report, for all tests of inference."""

from pathlib import Path
from typing import Any

import pytest
from studies import write_checkpoint

from pe_unified.inference import StudyPredictor, analyse_study, load_model


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "m.pth")


@pytest.fixture(scope="session")
def predictor(checkpoint) -> StudyPredictor:
    return StudyPredictor(load_model(checkpoint, device="cpu", precision="fp32"))


@pytest.fixture(scope="session")
def folder(painted_set) -> Path:
    """DICOM slices of one patient."""
    return min((painted_set[1].parent / "CT_scans").iterdir())


@pytest.fixture(scope="session")
def report(predictor, folder, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """The folder that was written, and the report."""
    out = tmp_path_factory.mktemp("out") / "new" / "report"
    return out, analyse_study(folder, out, predictor)
