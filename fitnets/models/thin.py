"""Thin, deep students: 3x3 convolutions in three blocks, at any input size and class count. Plain torch."""

from collections.abc import Callable, Sequence

from torch import nn

from fitnets.models.conv_bn_relu import ConvBnReLU
from fitnets.models.maxout import MaxoutConv2d

Blocks = Sequence[Sequence[int]]


class Thin(nn.Sequential):
    """(B, C, H, W) -> logits (B, num_classes). Layers `conv1`, `conv2`, ..., `flatten`, `classifier`.

    `conv(in_channels, units, pool)` makes one layer. Blocks end in a 2x2 pool, the last one in a pool over
    everything left, as in the paper's Table 7; a pool that meets a 1x1 map is skipped. The paper's fully
    connected maxout layer is left out here.

    `positions` are the guided layers: `early` and `middle` are the ends of the first and second block after
    their pool (the paper guides the end of the second: layer 3 + 3 = 6 in FitNet 1), `late` is the last layer
    whose map is not yet pooled away.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        blocks: Blocks,
        conv: Callable[..., nn.Module],
    ):
        super().__init__()
        channels, ends = input_shape[0], []
        for b, block in enumerate(blocks):
            for i, units in enumerate(block):
                pool = None if i < len(block) - 1 else 2 if b < len(blocks) - 1 else "all"
                self.add_module(f"conv{len(self) + 1}", conv(channels, units, pool=pool))
                channels = units
            ends.append(len(self))
        self.positions = {"early": f"conv{ends[0]}", "middle": f"conv{ends[1]}", "late": f"conv{ends[2] - 1}"}
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, num_classes)


def thin_maxout(input_shape: tuple[int, int, int], num_classes: int, blocks: Blocks, pieces: int = 2) -> nn.Module:
    """Maxout layers, as all of the paper's CIFAR students have them."""
    return Thin(
        input_shape,
        num_classes,
        blocks,
        lambda channels, units, pool: MaxoutConv2d(channels, units, 3, 1, pieces=pieces, pool=pool),
    )


def thin_relu(input_shape: tuple[int, int, int], num_classes: int, blocks: Blocks) -> nn.Module:
    """Convolution, batch norm, ReLU: the same shape with today's layers."""
    return Thin(
        input_shape,
        num_classes,
        blocks,
        lambda channels, units, pool: ConvBnReLU(channels, units, 3, pool=pool),
    )
