"""A wide, shallow teacher of today's blocks (convolution, batch norm, ReLU), at any input size and class count."""

import math
from collections.abc import Sequence

from torch import nn

from fitnets.models.blocks import ConvBnReLU


class WideReLU(nn.Sequential):
    """(B, C, H, W) -> logits (B, num_classes). Three layers; both maps are pooled 2x2."""

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
