"""Maxout layers as the FitNets code has them (pylearn2's MaxoutConvC01B and Maxout). Plain torch."""

import torch.nn.functional as F
from torch import Tensor, nn


class MaxoutConv2d(nn.Conv2d):
    """Convolution, the largest of each unit's pieces, then an optional max-pool.

    (B, C, H, W) -> (B, units, H', W'). Piece i of unit c is channel `c * pieces + i`, so `z[:, i::pieces]` is
    piece i of every unit. `pool=2` pools 2x2 and keeps partial windows (ceil mode, as pylearn2 does);
    `pool="all"` takes everything left; a map that is already 1x1 is not pooled.

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
        pool: int | str | None = None,
    ):
        super().__init__(in_channels, units * pieces, kernel_size, stride=stride, padding=padding)
        self.pieces = pieces
        self.pool = pool

    def forward(self, input: Tensor) -> Tensor:
        z = super().forward(input).unflatten(1, (-1, self.pieces)).amax(2)
        if self.pool is None or z.shape[-2:] == (1, 1):
            return z
        if self.pool == "all":
            return z.amax((-2, -1), keepdim=True)
        return F.max_pool2d(z, int(self.pool), ceil_mode=True)


class MaxoutLinear(nn.Linear):
    """Linear layer, then the largest of each unit's pieces: (B, in_features) -> (B, units)."""

    nonlinearity = "maxout"

    def __init__(self, in_features: int, units: int, pieces: int = 2):
        super().__init__(in_features, units * pieces)
        self.pieces = pieces

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).unflatten(1, (-1, self.pieces)).amax(2)
