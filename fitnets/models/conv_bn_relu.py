"""Convolution, batch norm, ReLU and an optional max-pool: today's everyday block. Plain torch."""

import torch.nn.functional as F
from torch import Tensor, nn


class ConvBnReLU(nn.Module):
    """(B, C, H, W) -> (B, units, H', W'), "same" padding. `pool` as in MaxoutConv2d: 2, "all" or None."""

    nonlinearity = "relu"

    def __init__(self, in_channels: int, units: int, kernel_size: int, pool: int | str | None = None):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, units, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(units)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        z = F.relu(self.bn(self.conv(x)))
        if self.pool is None or z.shape[-2:] == (1, 1):
            return z
        if self.pool == "all":
            return z.amax((-2, -1), keepdim=True)
        return F.max_pool2d(z, int(self.pool), ceil_mode=True)
