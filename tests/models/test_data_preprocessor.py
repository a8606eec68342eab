import numpy as np
import pytest
import torch

from pe_unified.models import PEDataPreprocessor
from pe_unified.testing import tiny_batch


def test_normalises_in_grey_levels():
    image = torch.arange(3 * 32 * 32).remainder(256).to(torch.uint8).view(3, 32, 32)
    mean, std = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)
    out = PEDataPreprocessor(mean, std)({"inputs": [image]})["inputs"]
    golden = (image.numpy().astype(np.float64) - np.reshape(mean, (3, 1, 1))) / np.reshape(
        std, (3, 1, 1)
    )
    np.testing.assert_allclose(out[0].numpy(), golden, rtol=1e-6)
    assert out.dtype == torch.float32


def test_pads_right_and_below_with_air():
    batch = tiny_batch(size=[(30, 64), (70, 33)])
    out = PEDataPreprocessor((0.0,) * 3, (1.0,) * 3)(batch)
    assert out["inputs"].shape == (2, 3, 96, 64)
    for index, (rows, cols) in enumerate([(30, 64), (70, 33)]):
        assert torch.equal(out["inputs"][index, :, :rows, :cols], batch["inputs"][index].float())
        assert out["inputs"][index, :, rows:].abs().sum() == 0
        assert out["inputs"][index, :, :, cols:].abs().sum() == 0
        meta = out["data_samples"][index].metainfo
        assert meta["img_shape"] == (rows, cols)
        assert meta["pad_shape"] == meta["batch_input_shape"] == (96, 64)


def test_takes_a_stacked_batch_and_passes_other_keys():
    data = {"inputs": torch.zeros(2, 3, 64, 64, dtype=torch.uint8), "heads": ("cls",)}
    out = PEDataPreprocessor()(data)
    assert out["inputs"].shape == (2, 3, 64, 64)
    assert out["heads"] == ("cls",)
    assert out["data_samples"] is None


def test_leaves_the_loaders_tensors_alone():
    image = torch.full((3, 64, 64), 7.0)
    PEDataPreprocessor()({"inputs": [image]})
    assert (image == 7).all()


def test_channels_last():
    out = PEDataPreprocessor(channels_last=True)(tiny_batch())["inputs"]
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, PEDataPreprocessor()(tiny_batch())["inputs"])


def test_constants_are_no_part_of_a_checkpoint():
    assert not PEDataPreprocessor().state_dict()


def test_refuses_channels_that_the_windows_do_not_give():
    data = {"inputs": [torch.zeros(1, 64, 64, dtype=torch.uint8)]}
    with pytest.raises(ValueError, match=r"input 0 .*\(1, 64, 64\), expected \(3, rows, cols\)"):
        PEDataPreprocessor()(data)
    with pytest.raises(ValueError, match="std positive"):
        PEDataPreprocessor(std=(1.0, 0.0, 1.0))
