"""The frozen teacher, and its answers by sample."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fitnets.data.module import EVAL_BATCH, DataModule

Answers = Callable[[Tensor, Tensor], Tensor]  # (sample indices, images) -> logits or hint maps


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
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def outside_tree(module: nn.Module, **attributes: Any) -> None:
    """Set attributes without registering networks among them as sub-modules."""
    module.__dict__.update(attributes)


def teacher_answers(teacher: FrozenTeacher, data: DataModule, how: str) -> Answers:
    """The teacher's output for training and validation samples: `cached` once here, or `online` at every step.

    Cached is exact while a sample always looks the same, as it does without augmentation; the cache is float32.
    """
    if how == "online":
        return lambda _index, x: teacher(x)
    assert data.images is not None
    everything = torch.arange(len(data.images.labels)).split(EVAL_BATCH)
    cache = torch.cat([teacher(data.preprocessed(index)) for index in everything])
    return lambda index, _x: cache[index]
