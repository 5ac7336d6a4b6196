"""What several processes that train together (fitnets.ranks) tell each other; alone, each is what it was."""

from typing import Any

import torch.distributed as dist
from torch import Tensor

from fitnets.losses import UNLABELLED


def together() -> bool:
    """Whether this process is one of several that train."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def labelled_in(y: Tensor) -> Tensor:
    """How many labels of the batch may be used, as a mean over the ranks: gradients are averaged over them too."""
    count = (y != UNLABELLED).sum()
    return averaged(count.float()) if together() else count


def averaged(value: Tensor) -> Tensor:
    """The mean of a tensor over the ranks, on each of them."""
    if not together():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def by_rank(own: Any) -> list[Any]:
    """What each rank has, on each of them."""
    if not together():
        return [own]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, own)
    return gathered
