"""The convolution that ends in a logit."""

import math

from torch import nn


class LogitConv(nn.Conv2d):
    """One logit per pixel; untrained, it gives every pixel the probability ``prior`` or near.

    Its weights start as usual: near 0 they would keep some seeds from ever learning.

    Args:
        in_channels: of the map.
        kernel_size: odd; rows and columns stay.
        prior: probability; emboli are rare.
    """

    def __init__(self, in_channels: int, kernel_size: int = 1, prior: float = 0.01) -> None:
        super().__init__(in_channels, 1, kernel_size, padding=kernel_size // 2)
        self.prior = prior
        self.init_weights()

    def init_weights(self) -> None:
        self.reset_parameters()
        nn.init.constant_(self.bias, math.log(self.prior / (1 - self.prior)))
