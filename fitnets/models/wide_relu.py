"""A wide, shallow teacher of today's blocks (convolution, batch norm, ReLU), at any input size and class count."""

import math

from torch import nn

from fitnets.models.conv_bn_relu import ConvBnReLU


class WideReLU(nn.Sequential):
    """(B, C, H, W) -> logits (B, num_classes). Three layers; both maps are pooled 2x2."""

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        widths: tuple[int, int] = (128, 256),
        kernel_size: int = 5,
        dropout: float = 0.5,
    ):
        channels, height, width = input_shape
        pooled = [math.ceil(math.ceil(n / 2) / 2) for n in (height, width)]
        super().__init__()
        self.conv1 = ConvBnReLU(channels, widths[0], kernel_size, pool=2)
        self.conv2 = ConvBnReLU(widths[0], widths[1], kernel_size, pool=2)
        self.drop = nn.Dropout(dropout)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(widths[1] * pooled[0] * pooled[1], num_classes)
        self.positions = {"early": "conv1", "middle": "conv2", "late": "conv2"}
