"""Optimizer and learning-rate schedule from a recipe of plain values."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from fitnets.components import build
from fitnets.losses import cosine


def make_optimizer(parameters: Iterable[nn.Parameter], recipe: Mapping[str, Any], updates: int) -> dict[str, Any]:
    """What a LightningModule returns from configure_optimizers: fresh state, the schedule stepped by updates.

    `recipe` has `optimizer` (a `_target_` and its options) and `lr_schedule`. `updates` is counted by the caller:
    Lightning's own estimate would lose the position of the data order on resume.
    """
    optimizer = build(recipe["optimizer"], list(parameters))
    if recipe["lr_schedule"] == "constant":
        return {"optimizer": optimizer}
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(min(step, updates), updates))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
