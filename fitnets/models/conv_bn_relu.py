"""Convolution, batch norm, ReLU and an optional max-pool: today's everyday block. Plain torch."""

import torch.nn.functional as F
from torch import Tensor, nn

from fitnets.models.maxout import Pool, max_pool


class ConvBnReLU(nn.Module):
    """(B, C, H, W) -> (B, units, H', W'), "same" padding. `pool` as in MaxoutConv2d: 2, "all" or None."""

    nonlinearity = "relu"

    def __init__(self, in_channels: int, units: int, kernel_size: int, pool: Pool = None):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, units, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(units)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return max_pool(F.relu(self.bn(self.conv(x))), self.pool)
