"""The layers of our networks: maxout as the FitNets code has it (pylearn2's MaxoutConvC01B and Maxout), and ReLU.

`pool` is a window or (window, stride), partial windows kept as pylearn2 does (ceil mode: (n - window) / stride, rounded
up, + 1); "all" takes everything left; a 1x1 map is not pooled. A layer's `nonlinearity` is what a regressor that
predicts it must end in (paper section 2.2). Plain torch.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

Pool = int | Sequence[int] | str | None


def pooling(pool: Pool) -> tuple[int, int]:
    """Window and stride as TorchScript can hold them: 0 pools nothing, -1 everything left."""
    if pool is None or isinstance(pool, str):
        return (0, 0) if pool is None else (-1, -1)
    window, stride = (pool, pool) if isinstance(pool, int) else pool
    return window, stride


def max_pool(x: Tensor, window: int, stride: int) -> Tensor:
    """Max over windows of (B, C, H, W)."""
    if window == 0 or (x.shape[-2] == 1 and x.shape[-1] == 1):
        return x
    if window < 0:
        return x.amax((-2, -1), keepdim=True)
    return F.max_pool2d(x, window, stride, ceil_mode=True)


class MaxoutConv2d(nn.Conv2d):
    """Convolution, the largest of each unit's pieces, pool: (B, C, H, W) -> (B, units, H', W').

    Piece i of unit c is channel `c * pieces + i`, so `z[:, i::pieces]` is piece i of every unit. `max_norm` is the
    largest norm of a filter that a recipe with `max_norm: true` allows.
    Source: Goodfellow et al. 2013; FitNets supplementary A.1 and the original code's YAML.
    """

    nonlinearity = "maxout"

    def __init__(
        self,
        in_channels: int,
        units: int,
        kernel_size: int | tuple[int, int],
        padding: int = 0,
        *,
        stride: int | tuple[int, int] = 1,
        pieces: int = 2,
        pool: Pool = None,
        max_norm: float | None = None,
    ):
        super().__init__(in_channels, units * pieces, kernel_size, stride=stride, padding=padding)
        self.pieces = pieces
        self.window, self.stride_of_pool = pooling(pool)
        self.max_norm = max_norm

    def forward(self, input: Tensor) -> Tensor:
        z = self._conv_forward(input, self.weight, self.bias)  # as nn.Conv2d's own, which TorchScript can't call
        return max_pool(z.unflatten(1, [-1, self.pieces]).amax(2), self.window, self.stride_of_pool)


class MaxoutLinear(nn.Linear):
    """Linear layer, then the largest of each unit's pieces: (B, in_features) -> (B, units).

    `max_norm` bounds the norm of each piece's own column of weights, as in pylearn2.
    """

    nonlinearity = "maxout"

    def __init__(self, in_features: int, units: int, pieces: int = 2, max_norm: float | None = None):
        super().__init__(in_features, units * pieces)
        self.pieces = pieces
        self.max_norm = max_norm

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias).unflatten(1, [-1, self.pieces]).amax(2)


class ConvBnReLU(nn.Module):
    """Convolution ("same" padding), batch norm, ReLU, pool: (B, C, H, W) -> (B, units, H', W')."""

    nonlinearity = "relu"

    def __init__(self, in_channels: int, units: int, kernel_size: int, pool: Pool = None):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, units, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(units)
        self.window, self.stride_of_pool = pooling(pool)

    def forward(self, x: Tensor) -> Tensor:
        return max_pool(F.relu(self.bn(self.conv(x))), self.window, self.stride_of_pool)
