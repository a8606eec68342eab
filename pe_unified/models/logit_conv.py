"""The final convolution, whose output is a logit."""

import math

from torch import nn


class LogitConv(nn.Conv2d):
    """One logit per pixel; untrained, every pixel has about the probability ``prior``.

    The weights have the usual initial values: near 0, some seeds would never learn.

    Args:
        in_channels: channels of the map.
        kernel_size: odd; rows and columns are kept.
        prior: initial probability; emboli are rare.
    """

    def __init__(self, in_channels: int, kernel_size: int = 1, prior: float = 0.01) -> None:
        super().__init__(in_channels, 1, kernel_size, padding=kernel_size // 2)
        self.prior = prior
        self.init_weights()

    def init_weights(self) -> None:
        self.reset_parameters()
        nn.init.constant_(self.bias, math.log(self.prior / (1 - self.prior)))
