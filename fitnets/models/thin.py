"""Thin, deep students: 3x3 convolutions in three blocks, at any input size and class count. Plain torch."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from fitnets.models.blocks import ConvBnReLU, MaxoutConv2d, MaxoutLinear


class Thin(nn.Sequential):
    """(B, C, H, W) -> logits (B, num_classes). Layers `conv1`, `conv2`, ..., `flatten`, `classifier`.

    Blocks end in a 2x2 pool, the last one in a pool over everything left, as in the paper's Table 7. `fc` is the
    paper's maxout layer below the classifier (units, pieces, max_norm); null leaves it out. `dropout` is the
    probability on the input, after every pool and after fc (LSUV's recipe for FitNet 4; the paper has none).
    `positions` are the guided layers: `early` and `middle` are the ends of the first and second block after their pool
    (the paper guides the second: conv6 in FitNet 1), `late` is the last layer whose map is not yet pooled away.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        blocks: Sequence[Sequence[int]],
        conv: Callable[..., nn.Module],
        fc: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
        classifier_max_norm: float | None = None,
    ):
        super().__init__()
        features, number, ends = input_shape[0], 0, []
        if dropout:
            self.drop0 = nn.Dropout(dropout)
        for b, block in enumerate(blocks, 1):
            last_pool = 2 if b < len(blocks) else "all"
            for i, units in enumerate(block, 1):
                number += 1
                self.add_module(f"conv{number}", conv(features, units, 3, pool=last_pool if i == len(block) else None))
                features = units
            ends.append(number)
            if dropout:
                self.add_module(f"drop{b}", nn.Dropout(dropout))
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
    input_shape: Sequence[int], num_classes: int, *, pieces: int = 2, max_norm: float | None = None, **options: Any
) -> nn.Module:
    """Maxout layers, as all of the paper's CIFAR students have them. Other `options` are Thin's."""
    conv = partial(MaxoutConv2d, padding=1, pieces=pieces, max_norm=max_norm)
    return Thin(input_shape, num_classes, conv=conv, **options)


def thin_relu(input_shape: Sequence[int], num_classes: int, **options: Any) -> nn.Module:
    """Convolution, batch norm, ReLU: the same shape with today's layers. The `options` are Thin's."""
    return Thin(input_shape, num_classes, conv=ConvBnReLU, **options)
