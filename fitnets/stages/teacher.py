"""The frozen teacher."""

from typing import Any

import torch
from torch import Tensor, nn


class FrozenTeacher(nn.Module):
    """A trained network (whole, or cut at its hint layer) that nothing can train.

    It stays in eval mode whatever anyone calls, holds no gradients, and is called under no_grad. Stages keep it
    outside their module tree (see `outside_tree`), so it is in no checkpoint and in no optimizer.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net.eval().requires_grad_(False)
        self.training = False

    def train(self, mode: bool = True) -> "FrozenTeacher":
        return self

    @torch.no_grad()
    def forward(self, x: Tensor) -> Any:
        return self.net(x)


def outside_tree(module: nn.Module, **attributes: Any) -> None:
    """Set attributes without registering networks among them as sub-modules."""
    module.__dict__.update(attributes)
