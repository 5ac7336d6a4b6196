"""The ReLU networks of the paper's face experiment (section 3.4, supplementary A.4), as far as they are consistent.

No batch norm; valid convolutions; 16x16 face crops; two classes (the paper's single sigmoid output says the same
with one logit). Left open by the paper: it prints 8 student widths for "7" layers (an eighth valid 3x3 layer would
not fit into 16x16, so these have 7), and its ratios of multiplications do not follow from the layers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from fitnets.models.maxout import Pool, flat_features, max_pool


class ConvReLU(nn.Conv2d):
    """Valid convolution, ReLU, then an optional max-pool: (B, C, H, W) -> (B, units, H', W')."""

    nonlinearity = "relu"

    def __init__(self, in_channels: int, units: int, kernel: int, pool: Pool = None):
        super().__init__(in_channels, units, kernel)
        self.pool = pool

    def forward(self, input: Tensor) -> Tensor:
        return max_pool(super().forward(input).relu(), self.pool)


class ReLUNet(nn.Sequential):
    """(B, C, H, W) -> logits (B, num_classes). Layers `conv1`, `conv2`, ..., `classifier`.

    `convs` lists units, kernel and, where there is one, pool; `positions` the hint or guided layers.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        convs: Sequence[Mapping[str, Any]],
        positions: Mapping[str, str],
    ):
        super().__init__()
        self.positions = dict(positions)
        channels = input_shape[0]
        for number, conv in enumerate(convs, 1):
            self.add_module(f"conv{number}", ConvReLU(channels, **conv))
            channels = conv["units"]
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(flat_features(self, input_shape), num_classes)
