"""What processes that train together (fitnets.training.processes) tell each other; alone, each is what it was."""

from typing import Any

import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether this process is one of several that train."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def averaged(value: Tensor) -> Tensor:
    """The mean of a tensor over the ranks, on each of them."""
    if not is_distributed():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def by_rank(own: Any) -> list[Any]:
    """What each rank has, on each of them."""
    if not is_distributed():
        return [own]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, own)
    return gathered
