"""The model of volumes: losses from known labels alone, whole volumes, what it refuses."""

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from pe_unified.datasets import PEVolumeSample
from pe_unified.models import PEVolume, PEVolumePreprocessor
from pe_unified.models.volume_losses import VolumeTverskyLoss
from pe_unified.models.volume_marks import find_marks

HEAD = dict(type="VolumeHead", losses=[dict(type="VolumeTverskyLoss", loss_weight=0.75)])
ARTERY = dict(type="VolumeHead", losses=[dict(type="VolumeTverskyLoss", loss_weight=0.25)])
WINDOWS = dict(size=16, stride=12, ramp=4)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope("pe_unified"):
        yield


def model_of(lesion=HEAD, artery=ARTERY, **network):
    torch.manual_seed(0)
    options = dict(type="AANet3D", width=0.125, **network)
    model = PEVolume(options, lesion, artery, WINDOWS)
    for head in (model.network.embolus_head, model.network.artery_head):
        if head is not None:
            torch.nn.init.normal_(head.output.weight)
    return model


def sample(seed, **absent):
    rng = np.random.default_rng(seed)
    found = PEVolumeSample()
    for name in ("gt_lesion", "gt_artery"):
        if name not in absent:
            label = (rng.random((2, 16, 16, 16)) < 0.1).astype(np.uint8)
            found.set_field(torch.from_numpy(label), name)
    return found


@pytest.fixture
def patches():
    return torch.rand(6, 1, 16, 16, 16, generator=torch.Generator().manual_seed(2))


def test_every_head_learns_from_the_studies_of_which_its_labels_are_known(patches):
    model = model_of()
    samples = [sample(0), sample(1, gt_artery=None), sample(2, gt_lesion=None)]
    losses = model(patches, samples, mode="loss")
    assert list(losses) == ["lesion_loss_tversky", "artery_loss_tversky"]
    embolus, artery = model.network(patches)
    tversky = VolumeTverskyLoss()
    lesions = torch.cat([samples[0].gt_lesion, samples[1].gt_lesion])[:, None]
    arteries = torch.cat([samples[0].gt_artery, samples[2].gt_artery])[:, None]
    expected = 0.75 * tversky(embolus[:4], lesions)
    torch.testing.assert_close(losses["lesion_loss_tversky"], expected)
    expected = 0.25 * tversky(artery[[0, 1, 4, 5]], arteries)
    torch.testing.assert_close(losses["artery_loss_tversky"], expected)


def test_a_loss_without_labels_is_zero_with_a_gradient(patches):
    model = model_of()
    samples = [sample(seed, gt_artery=None) for seed in range(3)]
    losses = model(patches, samples, mode="loss")
    assert losses["artery_loss_tversky"] == 0 and losses["lesion_loss_tversky"] > 0
    losses["artery_loss_tversky"].backward()
    gradient = model.network.artery_head.output.weight.grad
    assert gradient is not None and not gradient.any()


def test_a_whole_volume_of_one_window_is_the_networks_own_answer():
    model = model_of().eval()
    hu = torch.randint(-200, 600, (1, 16, 16, 16), dtype=torch.int16)
    batch = model.data_preprocessor({"inputs": [hu], "data_samples": [PEVolumeSample()]})
    (found,) = model(**batch, mode="predict")
    embolus, artery = model.network(batch["inputs"])
    torch.testing.assert_close(found.pred_lesion, embolus[0, 0].sigmoid(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.pred_artery, artery[0, 0].sigmoid(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.pred_marks, find_marks(found.pred_lesion.numpy(), 1.0))


def test_arteries_alone_have_no_marks():
    model = model_of(lesion=None, embolus=False).eval()
    assert model.heads == ("artery",)
    (found,) = model(torch.rand(1, 1, 8, 9, 20), mode="predict")
    assert found.pred_artery.shape == (8, 9, 20)
    assert "pred_lesion" not in found and "pred_marks" not in found


def test_what_cannot_be_is_refused(patches):
    with pytest.raises(ValueError, match="needs lesion_head"):
        model_of(lesion=None, artery=None)
    with pytest.raises(ValueError, match="has no output for artery; leave artery_head out"):
        PEVolume(dict(type="AANet3D", width=0.125, artery=False), HEAD, ARTERY, WINDOWS)(patches)
    with pytest.raises(ValueError, match=r"windows of 20 voxels.* multiples of 16"):
        PEVolume(dict(type="AANet3D", width=0.125), HEAD, windows=dict(size=20, stride=20))
    with pytest.raises(ValueError, match="data_samples"):
        model_of()(patches, mode="loss")


def test_hounsfield_units_become_shares_of_the_range():
    hu = torch.tensor([-1024, -100, 50, 200, 500, 3000], dtype=torch.int16).reshape(1, 1, 1, 6)
    batch = PEVolumePreprocessor()({"inputs": [hu, hu]})
    assert batch["inputs"].shape == (2, 1, 1, 1, 6)
    expected = torch.tensor([0, 0, 0.25, 0.5, 1, 1])
    torch.testing.assert_close(batch["inputs"][1].flatten(), expected)
    with pytest.raises(ValueError, match="batch_size=1"):
        PEVolumePreprocessor()({"inputs": [hu, hu[..., :3]]})
    with pytest.raises(ValueError, match="lower first"):
        PEVolumePreprocessor(hu=(500, -100))
