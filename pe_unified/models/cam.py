"""Heat maps: which parts of a slice a network's output depends on."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from pe_unified.errors import UserError
from pe_unified.models.protocols import Levels


class CamError(UserError, ValueError):
    """A network, a level or an output for which no heat map can be computed."""


def level_of(network: Levels, level: int) -> int:
    """The index of a level, from 0.

    Args:
        network: a network that declares its levels.
        level: finest first from 0, or coarsest first from -1.

    Raises:
        CamError: the network has no such level, or does not declare its levels.
    """
    if not hasattr(network, "level_modules"):
        raise CamError(
            f"{type(network).__name__} does not describe its levels; give it feature_info and "
            "level_modules (pe_unified/models/protocols.py, Levels)"
        )
    count = len(network.level_modules())
    if not -count <= level < count:
        raise CamError(
            f"there is no level {level}: {type(network).__name__} has {count}, 0 (finest) to "
            f"{count - 1}, or -{count} to -1"
        )
    return level % count


def grad_cam(network: Levels, inputs: Tensor, level: int, score: Callable[[Any], Tensor]) -> Tensor:
    """Grad-CAM: the channels of a level, each weighted by the mean gradient of the score.

    Selvaraju et al. 2017 (https://arxiv.org/abs/1610.02391), equations 1 and 2. Negative values are
    clipped. The map shows the level as the next stage reads it: if the output of a level has its
    own norm, as in Swin, the map is taken before that norm.

    Args:
        network: a backbone or an encoder in evaluation mode, whose parameters may all be frozen.
        inputs: float (n, channels, rows, cols), or (n, channels, planes, rows, cols).
        level: index, finest first, or from -1, coarsest first.
        score: maps the network's output to one logit per row, (n,), each computed from its own row
            only.

    Returns:
        float32 (n, rows, cols) or (n, planes, rows, cols), at the level's stride, not negative.

    Raises:
        CamError: there is no such level, or the score does not depend on its cells.
    """
    number = level_of(network, level)
    stride = network.feature_info.strides[number]
    cells = [-(-side // stride) for side in inputs.shape[-2:]]
    seen: list[Tensor] = []
    with ExitStack() as stack:
        for module in network.level_modules()[number]:
            stack.callback(module.register_forward_hook(_watch(seen)).remove)
        stack.enter_context(torch.enable_grad())
        answer = score(network(inputs)).sum()
        gradients = _gradients(answer, seen)
    channels = network.feature_info.channels[number]
    maps, slopes = (
        [_as_map(each, channels, cells) for each in outputs] for outputs in (seen, gradients)
    )
    read = any(each.any() for each in slopes) or not any(each.any() for each in gradients)
    if not gradients or not read:
        raise CamError(
            f"level {level} (stride {stride}) does not affect the answer; choose another (--level)"
        )
    total = torch.stack([_weighed(each, slope) for each, slope in zip(maps, slopes)]).sum(dim=0)
    return total.relu()


def _watch(seen: list[Tensor]) -> Callable[..., Any]:
    """A hook that keeps a module's first output and starts the graph there."""

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        first, *rest = output if isinstance(output, tuple) else (output,)
        seen.append(first.detach().requires_grad_())
        # A copy, because later layers may work in place.
        given = seen[-1].clone()
        return (given, *rest) if isinstance(output, tuple) else given

    return hook


def _gradients(answer: Tensor, seen: list[Tensor]) -> list[Tensor]:
    """Gradients of the score with respect to each tensor; empty if it depends on none."""
    if not answer.requires_grad:
        return []
    found = torch.autograd.grad(answer, seen, allow_unused=True)
    if all(gradient is None for gradient in found):
        return []
    return [
        torch.zeros_like(each) if gradient is None else gradient
        for each, gradient in zip(seen, found)
    ]


def _as_map(output: Tensor, channels: int, cells: list[int]) -> Tensor:
    """A module's output as float32 (n, channels, ..., rows, cols)."""
    output = output.detach().float()
    if output.ndim == 3:
        in_front = output.shape[1] - cells[0] * cells[1]
        return output[:, in_front:].transpose(1, 2).unflatten(2, cells)
    return output if output.shape[1] == channels else output.movedim(-1, 1)


def _weighed(maps: Tensor, gradients: Tensor) -> Tensor:
    weights = gradients.mean(dim=tuple(range(2, gradients.ndim)), keepdim=True)
    return (weights * maps).sum(dim=1)
