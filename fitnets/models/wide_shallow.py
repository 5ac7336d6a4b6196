"""The wide, shallow maxout teacher: two convolutions and a classifier, at any input size and class count."""

import math
from collections.abc import Sequence

from torch import nn

from fitnets.models.blocks import MaxoutConv2d


class WideShallow(nn.Sequential):
    """(B, C, H, W) -> logits (B, num_classes). Three layers; both maps are pooled 2x2.

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
