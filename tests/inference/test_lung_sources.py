"""lungmask itself, with weights that the test makes."""

import numpy as np
import pytest
import torch
from lungmask.resunet import UNet
from studies import study_of

from pe_unified.errors import CheckpointError
from pe_unified.inference.lung_sources import lung_source, weights_file
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey
from pe_unified.phantom.study import paint_study


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def weights(hub):
    """lungmask's own network, made to call everything inside the body right lung."""
    network = UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True)
    state = network.state_dict()
    state["last.weight"].zero_()
    state["last.bias"].copy_(torch.tensor([0.0, 1.0, 0.0]))
    weights_file().parent.mkdir(parents=True)
    torch.save(state, weights_file())


@pytest.fixture
def reader():
    study = paint_study(4, (12, 96, 96))
    z_mm, row_mm, col_mm = study.spacing
    return SliceReader(study_of(study.hu, (row_mm, col_mm, z_mm)))


@pytest.mark.slow
def test_learned_lungs_are_taken_where_there_are_weights(weights, reader):
    learned, classical = survey(reader), survey(reader, lungs_from="classical")
    assert (learned.source, classical.source) == ("lungmask", "classical")
    assert learned.lungs.shape == classical.lungs.shape
    # The made weights call the body's rectangle lung, which the thresholds do not.
    assert learned.lungs[classical.body].mean() > 0.95
    assert classical.lungs[classical.body].mean() < 0.7
    # Networks learnt on crops around the lungs of the thresholds, and go on getting them.
    assert learned.box == classical.box
    np.testing.assert_array_equal(learned.body, classical.body)


def test_without_weights_nothing_is_downloaded(hub):
    assert lung_source("auto") == lung_source("classical") == "classical"
    tissue = np.full((12, 64, 64), 40, np.int16)
    assert survey(SliceReader(study_of(tissue))).source == "classical"
    with pytest.raises(CheckpointError, match=r"no weights at .*unet_r231-d5d2fc3d\.pth"):
        lung_source("lungmask")
    with pytest.raises(ValueError, match="not 'magic'"):
        lung_source("magic")


def test_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert lung_source("auto") == "classical"
    with pytest.raises(CheckpointError, match=r"pip install -e '\.\[lungs\]'"):
        lung_source("lungmask")
