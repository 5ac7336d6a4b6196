"""The order of samples: batch t is a pure function of (seed, t), so any run can be resumed anywhere, exactly."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from fitnets.seeds import derive


def per_epoch(samples: int, batch_size: int, given: int | None) -> int:
    """Updates in an epoch: as `updates_per_epoch` says, or as many full batches as the samples make, one at least."""
    return given or max(1, samples // batch_size)


class ShuffledBatches:
    """Batches of a pool of indices, shuffled anew in each pass over it, cut into epochs of equal length.

    Passes follow each other without a gap: no sample is dropped at the end of an epoch, and every batch is full.
    The batch numbered t holds samples t * batch_size and following of that endless stream; `first` is the t at
    which this training starts (a KD stage goes on where its hint stage ended). `fetch` turns (B,) indices and t
    into a batch. Has `state_dict` and `load_state_dict`, which Lightning calls to resume in mid-epoch.
    """

    def __init__(
        self,
        pool: Tensor,
        batch_size: int,
        batches_per_epoch: int,
        seed: int,
        fetch: Callable[[Tensor, int], Any],
        first: int = 0,
    ):
        self.pool = pool
        self.batch_size = min(batch_size, len(pool))
        self.batches_per_epoch = batches_per_epoch
        self.seed = seed
        self.fetch = fetch
        self.first = first
        self.done = 0  # batches given so far in this training
        self._shuffled = lru_cache(maxsize=2)(self._shuffle)

    def indices(self, t: int) -> Tensor:
        """Sample indices of batch t, (batch_size,)."""
        n, start = len(self.pool), t * self.batch_size
        passes = range(start // n, (start + self.batch_size - 1) // n + 1)
        stream = torch.cat([self._shuffled(number) for number in passes])
        return stream[start - passes[0] * n :][: self.batch_size]

    def _shuffle(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive(self.seed, "order", number))
        return self.pool[torch.randperm(len(self.pool), generator=generator)]

    def __len__(self) -> int:
        return self.batches_per_epoch

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.batches_per_epoch - self.done % self.batches_per_epoch):
            t = self.first + self.done
            self.done += 1
            yield self.fetch(self.indices(t), t)

    def state_dict(self) -> dict[str, int]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.done = state["done"]


class EvalBatches:
    """The samples of a pool in order, once; the last batch may be smaller.

    Of `world` ranks each gets its part of every batch; batches are then of one size, so that none has no part.
    """

    def __init__(self, pool: Tensor, batch_size: int, fetch: Callable[[Tensor], Any], rank: int = 0, world: int = 1):
        self.parts = pool.split(batch_size)
        if world > 1:
            self.parts = tuple(part[rank::world] for part in pool.tensor_split(len(self.parts)))
        self.fetch = fetch

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Any]:
        return (self.fetch(part) for part in self.parts)
