import pytest
import torch
from mmcv.ops import RoIAlign

from pe_unified.models.heads.roi_align import SharedOutRoIAlign

OPTIONS = dict(output_size=7, spatial_scale=0.25, sampling_ratio=0, use_torchvision=True)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _boxes(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    corner = torch.rand(count, 2, generator=generator) * 80
    size = 2 + torch.rand(count, 2, generator=generator) * 40
    index = torch.randint(0, 2, (count, 1), generator=generator)
    return torch.cat([index, corner, corner + size], dim=1)


@pytest.mark.parametrize("count", [0, 1, 31, 33, 101])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_features_are_those_of_mmcv(two_threads, count, mode):
    levels = torch.randn(2, 8, 32, 32)
    with mode():
        ours = SharedOutRoIAlign(**OPTIONS)(levels, _boxes(count))
        torch.testing.assert_close(ours, RoIAlign(**OPTIONS)(levels, _boxes(count)), rtol=0, atol=0)
    assert ours.is_inference() == (mode is torch.inference_mode)


def test_under_autocast_too(two_threads):
    """Threads do not know of autocast, which leaves float32 as it is."""
    levels, boxes = torch.randn(2, 8, 32, 32), _boxes(101)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        ours = SharedOutRoIAlign(**OPTIONS)(levels, boxes)
        torch.testing.assert_close(ours, RoIAlign(**OPTIONS)(levels, boxes), rtol=0, atol=0)
        half = SharedOutRoIAlign(**OPTIONS)(levels.bfloat16(), boxes)
        expected = RoIAlign(**OPTIONS)(levels.bfloat16(), boxes)
    assert ours.dtype == torch.float32 and half.dtype == expected.dtype
    torch.testing.assert_close(half, expected, rtol=0, atol=0)


def test_boxes_are_shared_out(two_threads, monkeypatch):
    parts = []
    align = RoIAlign.forward

    def counted(self, levels, boxes):
        parts.append(len(boxes))
        return align(self, levels, boxes)

    monkeypatch.setattr(RoIAlign, "forward", counted)
    with torch.no_grad():
        SharedOutRoIAlign(**OPTIONS)(torch.zeros(2, 8, 32, 32), _boxes(101))
    assert sorted(parts) == [5, 32, 32, 32]


def test_gradients_pass(two_threads):
    gradients = []
    for kind in (SharedOutRoIAlign, RoIAlign):
        levels = torch.ones(2, 8, 32, 32, requires_grad=True)
        kind(**OPTIONS)(levels, _boxes(101)).square().sum().backward()
        gradients.append(levels.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().sum() > 0
