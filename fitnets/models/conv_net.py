"""Networks layer by layer, as the paper's and pylearn2's YAML files write them down. Plain torch.

The ReLU networks are those of the paper's face experiment (section 3.4, supplementary A.4), as far as they are
consistent: no batch norm, valid convolutions, 16x16 face crops, two classes (the paper's single sigmoid output says the
same with one logit). Left open by the paper: it prints 8 student widths for "7" layers (an eighth valid 3x3 layer would
not fit into 16x16, so these have 7), and its ratios of multiplications do not follow from the layers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fitnets.models.blocks import MaxoutConv2d, MaxoutLinear, Pool, max_pool, pooling


class ConvNet(nn.Sequential):
    """(B, C, H, W) -> logits (B, num_classes). Layers `conv1`, `conv2`, ..., `fc`, `classifier`.

    `convs` lists each convolution: units, kernel, and the options of the class's `conv` (pool, ...). `fc` is a maxout
    layer (units, pieces, max_norm), or null. `input_dropout` is the probability before conv1, `dropout` before every
    later layer. `positions` names layers that may be hint or guided layers.
    """

    conv: Callable[..., nn.Module]  # (in_channels, units, kernel, padding, **options)

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        *,
        convs: Sequence[Mapping[str, Any]],
        positions: Mapping[str, str],
        fc: Mapping[str, Any] | None = None,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        classifier_max_norm: float | None = None,
    ):
        super().__init__()
        self.positions = dict(positions)
        features = input_shape[0]
        for number, conv in enumerate(convs, 1):
            self._drop(number, input_dropout if number == 1 else dropout)
            options = dict(conv)
            units, kernel, pad = options.pop("units"), options.pop("kernel"), options.pop("pad", 0)
            self.add_module(f"conv{number}", type(self).conv(features, units, kernel, pad, **options))
            features = units
        self.flatten = nn.Flatten()
        with torch.no_grad():  # of one image
            features = self(torch.zeros(2, *input_shape, device=next(self.parameters()).device)).shape[1]
        if fc:
            self._drop(len(convs) + 1, dropout)
            self.fc = MaxoutLinear(features, **fc)
            features = fc["units"]
        self._drop(len(convs) + 2, dropout)
        self.classifier = nn.Linear(features, num_classes)
        self.classifier.max_norm = classifier_max_norm  # type: ignore[assignment]

    def _drop(self, number: int, probability: float) -> None:
        if probability:
            self.add_module(f"drop{number}", nn.Dropout(probability))


class MaxoutNet(ConvNet):
    """Source: paper, supplementary A.1.1 to A.3; pylearn2 scripts/papers/maxout."""

    conv = MaxoutConv2d


class ConvReLU(nn.Conv2d):
    """Convolution, ReLU, pool: (B, C, H, W) -> (B, units, H', W')."""

    nonlinearity = "relu"

    def __init__(self, in_channels: int, units: int, kernel_size: int, padding: int = 0, pool: Pool = None):
        super().__init__(in_channels, units, kernel_size, padding=padding)
        self.window, self.stride_of_pool = pooling(pool)

    def forward(self, input: Tensor) -> Tensor:
        z = self._conv_forward(input, self.weight, self.bias)  # as nn.Conv2d's own, which TorchScript can't call
        return max_pool(z.relu(), self.window, self.stride_of_pool)


class ReLUNet(ConvNet):
    """Layers `conv1`, `conv2`, ..., `classifier`; `convs` lists units, kernel and, where there is one, pool."""

    conv = ConvReLU
