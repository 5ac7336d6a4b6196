"""Residual networks for 32x32 images: ResNet-20/56 (He et al. 2016, section 4.2) and WRN-d-w (Zagoruyko 2016).

The teacher-student pairs that distillation papers publish. `positions` are the ends of the three stages; a hint
between two of the same family needs equal maps, which they have. Plain torch.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

conv3x3 = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
conv1x1 = partial(nn.Conv2d, kernel_size=1, bias=False)


class PostActivation(nn.Module):
    """conv, batch norm, ReLU, conv, batch norm, sum, ReLU; 1x1 convolution and batch norm where the shape changes."""

    nonlinearity = "relu"

    def __init__(self, channels: int, units: int, stride: int):
        super().__init__()
        self.conv1 = conv3x3(channels, units, stride=stride)
        self.bn1 = nn.BatchNorm2d(units)
        self.conv2 = conv3x3(units, units)
        self.bn2 = nn.BatchNorm2d(units)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != units:
            self.shortcut = nn.Sequential(conv1x1(channels, units, stride=stride), nn.BatchNorm2d(units))

    def forward(self, x: Tensor) -> Tensor:
        z = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(z + self.shortcut(x))


class PreActivation(nn.Module):
    """batch norm, ReLU, conv, twice, then the sum; a 1x1 convolution where the shape changes."""

    nonlinearity = "linear"

    def __init__(self, channels: int, units: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = conv3x3(channels, units, stride=stride)
        self.bn2 = nn.BatchNorm2d(units)
        self.conv2 = conv3x3(units, units)
        self.shortcut = conv1x1(channels, units, stride=stride) if channels != units else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        z = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return z + (x if self.shortcut is None else self.shortcut(active))


class _Residual(nn.Module):
    """(B, C, H, W) -> logits (B, num_classes). Layers `conv1`, `layer1`, `layer2`, `layer3`, `classifier`."""

    channels_last = True  # how its weights lie in memory where the trainer may choose: 0.8 of the time on a CPU
    positions = {"early": "layer1", "middle": "layer2", "late": "layer3"}  # noqa: RUF012

    def __init__(self, channels: int, num_classes: int, block: Any, blocks: int, width: int):
        super().__init__()
        self.conv1 = conv3x3(channels, 16)
        self.layer1 = _layer(block, blocks, 16, 16 * width, 1)
        self.layer2 = _layer(block, blocks, 16 * width, 32 * width, 2)
        self.layer3 = _layer(block, blocks, 32 * width, 64 * width, 2)
        self.classifier = nn.Linear(64 * width, num_classes)


def _layer(block: Any, blocks: int, channels: int, units: int, stride: int) -> nn.Sequential:
    layer = nn.Sequential(block(channels, units, stride))
    layer.extend(block(units, units, 1) for _ in range(blocks - 1))
    layer.nonlinearity = block.nonlinearity  # what a hint at this layer's end looks like
    return layer


class ResNet(_Residual):
    """Depth 6n + 2 with widths 16, 32, 64. Projection shortcuts, as the distillation benchmarks use them."""

    def __init__(self, input_shape: Sequence[int], num_classes: int, depth: int):
        if (depth - 2) % 6:
            raise ValueError(f"depth is {depth}; a ResNet for 32x32 has depth 6n + 2: 20, 32, 44, 56, 110")
        super().__init__(input_shape[0], num_classes, PostActivation, (depth - 2) // 6, 1)
        self.bn1 = nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.classifier(x.mean((-2, -1)))


class WideResNet(_Residual):
    """WRN-depth-width: depth 6n + 4, widths 16, 32, 64 times `width`, batch norm first."""

    def __init__(self, input_shape: Sequence[int], num_classes: int, depth: int, width: int):
        if (depth - 4) % 6:
            raise ValueError(f"depth is {depth}; a wide ResNet has depth 6n + 4: 16, 22, 28, 40")
        super().__init__(input_shape[0], num_classes, PreActivation, (depth - 4) // 6, width)
        self.bn = nn.BatchNorm2d(64 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.classifier(F.relu(self.bn(x)).mean((-2, -1)))
