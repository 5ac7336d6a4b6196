"""Wide, shallow teachers: two convolutions and a classifier, at any input size and class count. Plain torch."""

import math
from collections.abc import Sequence

from torch import nn

from fitnets.models.blocks import ConvBnReLU, MaxoutConv2d


class WideShallow(nn.Sequential):
    """(B, C, H, W) -> logits (B, num_classes). Three layers, maxout as in the paper; both maps are pooled 2x2.

    `positions` names the hint layers: the paper takes the teacher's second layer (Table 7: "6 <- 2").
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        widths: Sequence[int] = (96, 192),
        kernel_size: int = 5,
        pieces: int = 2,
        dropout: Sequence[float] = (0.1, 0.1, 0.5),
    ):
        super().__init__()
        channels, height, width = input_shape
        pad = kernel_size // 2
        self.drop0 = nn.Dropout(dropout[0])
        self.conv1 = MaxoutConv2d(channels, widths[0], kernel_size, pad, pieces=pieces, pool=2)
        self.drop1 = nn.Dropout(dropout[1])
        self.conv2 = MaxoutConv2d(widths[0], widths[1], kernel_size, pad, pieces=pieces, pool=2)
        self.drop2 = nn.Dropout(dropout[2])
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(widths[1] * math.ceil(height / 4) * math.ceil(width / 4), num_classes)
        self.positions = {"early": "conv1", "middle": "conv2", "late": "conv2"}


class WideReLU(nn.Sequential):
    """(B, C, H, W) -> logits (B, num_classes). The same of today's layers: convolution, batch norm, ReLU."""

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        widths: Sequence[int] = (128, 256),
        kernel_size: int = 5,
        dropout: float = 0.5,
    ):
        super().__init__()
        channels, height, width = input_shape
        self.conv1 = ConvBnReLU(channels, widths[0], kernel_size, pool=2)
        self.conv2 = ConvBnReLU(widths[0], widths[1], kernel_size, pool=2)
        self.drop = nn.Dropout(dropout)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(widths[1] * math.ceil(height / 4) * math.ceil(width / 4), num_classes)
        self.positions = {"early": "conv1", "middle": "conv2", "late": "conv2"}
