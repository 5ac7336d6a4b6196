"""Maxout layers as the FitNets code has them (pylearn2's MaxoutConvC01B and Maxout). Plain torch."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pool = int | Sequence[int] | str | None  # window, (window, stride), "all" or none


def max_pool(x: Tensor, pool: Pool) -> Tensor:
    """Max over windows of (B, C, H, W), partial windows kept; `pool` as in MaxoutConv2d."""
    if pool is None or x.shape[-2:] == (1, 1):
        return x
    if isinstance(pool, str):
        return x.amax((-2, -1), keepdim=True)
    window, stride = (pool, pool) if isinstance(pool, int) else pool
    return F.max_pool2d(x, window, stride, ceil_mode=True)


@torch.no_grad()
def flat_features(layers: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """How many features layers that end in a flatten give for one image (C, H, W)."""
    weight = next(layers.parameters())
    return layers(torch.zeros(2, *input_shape, device=weight.device)).shape[1]


class MaxoutConv2d(nn.Conv2d):
    """Convolution, the largest of each unit's pieces, then an optional max-pool.

    (B, C, H, W) -> (B, units, H', W'). Piece i of unit c is channel `c * pieces + i`, so `z[:, i::pieces]` is
    piece i of every unit. `pool` is a window or (window, stride), partial windows kept as pylearn2 does (ceil
    mode: (n - window) / stride, rounded up, + 1); "all" takes everything left; a 1x1 map is not pooled.
    `max_norm` is the largest norm of a filter that a recipe with `max_norm: true` allows.

    Source: Goodfellow et al. 2013; FitNets supplementary A.1 and the original code's YAML.
    """

    nonlinearity = "maxout"  # what a regressor that predicts this layer must end in (paper section 2.2)

    def __init__(
        self,
        in_channels: int,
        units: int,
        kernel_size: int | tuple[int, int],
        padding: int = 0,
        stride: int | tuple[int, int] = 1,
        pieces: int = 2,
        pool: Pool = None,
        max_norm: float | None = None,
    ):
        super().__init__(in_channels, units * pieces, kernel_size, stride=stride, padding=padding)
        self.pieces = pieces
        self.pool = pool
        self.max_norm = max_norm

    def forward(self, input: Tensor) -> Tensor:
        z = super().forward(input).unflatten(1, (-1, self.pieces)).amax(2)
        return max_pool(z, self.pool)


class MaxoutLinear(nn.Linear):
    """Linear layer, then the largest of each unit's pieces: (B, in_features) -> (B, units).

    `max_norm` as in MaxoutConv2d: pylearn2 bounds the norm of each piece's own column of weights.
    """

    nonlinearity = "maxout"

    def __init__(self, in_features: int, units: int, pieces: int = 2, max_norm: float | None = None):
        super().__init__(in_features, units * pieces)
        self.pieces = pieces
        self.max_norm = max_norm

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).unflatten(1, (-1, self.pieces)).amax(2)
