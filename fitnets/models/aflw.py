"""The ReLU networks of the paper's face experiment (section 3.4, supplementary A.4), as far as they are consistent.

No batch norm; valid convolutions; 16x16 face crops; two classes (the paper's single sigmoid output says the same
with one logit). Left open by the paper: it prints 8 student widths for "7" layers (an eighth valid 3x3 layer would
not fit into 16x16, so these have 7), and its ratios of multiplications do not follow from the layers.
"""

from torch import Tensor, nn

from fitnets.models.blocks import Pool, max_pool
from fitnets.models.maxout_net import ConvNet


class ConvReLU(nn.Conv2d):
    """Convolution, ReLU, pool: (B, C, H, W) -> (B, units, H', W')."""

    nonlinearity = "relu"

    def __init__(self, in_channels: int, units: int, kernel_size: int, padding: int = 0, pool: Pool = None):
        super().__init__(in_channels, units, kernel_size, padding=padding)
        self.pool = pool

    def forward(self, input: Tensor) -> Tensor:
        return max_pool(super().forward(input).relu(), self.pool)


class ReLUNet(ConvNet):
    """Layers `conv1`, `conv2`, ..., `classifier`; `convs` lists units, kernel and, where there is one, pool."""

    conv = ConvReLU
