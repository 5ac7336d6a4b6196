"""Thin, deep students: 3x3 convolutions in three blocks, at any input size and class count. Plain torch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from fitnets.models.conv_bn_relu import ConvBnReLU
from fitnets.models.maxout import MaxoutConv2d, MaxoutLinear, Pool

Blocks = Sequence[Sequence[int]]


class Thin(nn.Sequential):
    """(B, C, H, W) -> logits (B, num_classes). Layers `conv1`, `conv2`, ..., `flatten`, `classifier`.

    `conv(in_channels, units, pool)` makes one layer. Blocks end in a 2x2 pool, the last one in a pool over
    everything left, as in the paper's Table 7; a pool that meets a 1x1 map is skipped. `fc` is the paper's
    maxout layer below the classifier (units, pieces, max_norm); null leaves it out. `dropout` is the probability
    on the input, after every pool and after fc (LSUV's recipe for FitNet 4; the paper has none).

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
        fc: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
        classifier_max_norm: float | None = None,
    ):
        super().__init__()
        features, number, ends = input_shape[0], 0, []
        if dropout:
            self.drop0 = nn.Dropout(dropout)
        for b, block in enumerate(blocks):
            for i, units in enumerate(block):
                pool = None if i < len(block) - 1 else 2 if b < len(blocks) - 1 else "all"
                number += 1
                self.add_module(f"conv{number}", conv(features, units, pool=pool))
                features = units
            ends.append(number)
            if dropout:
                self.add_module(f"drop{b + 1}", nn.Dropout(dropout))
        self.positions = {"early": f"conv{ends[0]}", "middle": f"conv{ends[1]}", "late": f"conv{ends[2] - 1}"}
        self.flatten = nn.Flatten()
        if fc:
            self.fc = MaxoutLinear(features, **fc)
            features = fc["units"]
            if dropout:
                self.drop_fc = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, num_classes)
        self.classifier.max_norm = classifier_max_norm  # type: ignore[assignment]


def thin_maxout(
    input_shape: tuple[int, int, int],
    num_classes: int,
    blocks: Blocks,
    pieces: int = 2,
    max_norm: float | None = None,
    **options: Any,
) -> nn.Module:
    """Maxout layers, as all of the paper's CIFAR students have them. Other `options` are Thin's."""

    def conv(channels: int, units: int, pool: Pool) -> nn.Module:
        return MaxoutConv2d(channels, units, 3, 1, pieces=pieces, pool=pool, max_norm=max_norm)

    return Thin(input_shape, num_classes, blocks, conv, **options)


def thin_relu(input_shape: tuple[int, int, int], num_classes: int, blocks: Blocks, **options: Any) -> nn.Module:
    """Convolution, batch norm, ReLU: the same shape with today's layers. Other `options` are Thin's."""

    def conv(channels: int, units: int, pool: Pool) -> nn.Module:
        return ConvBnReLU(channels, units, 3, pool=pool)

    return Thin(input_shape, num_classes, blocks, conv, **options)
