"""What the networks are given at a step, and the order of samples: batch t is a pure function of (seed, t)."""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fitnets.seeds import derive

UNLABELLED = -1  # a label that a training may not see


class Batch(NamedTuple):
    """One batch: sample ids (B,), images (B, C, H, W) float32 preprocessed, labels (B,) int64, variants (B,).

    Labels that the student may not see are UNLABELLED (only in training, with `dataset.labels=N`). Ids count the
    training file, so they name the same sample in every stage; in the test part they count it. `variant` says in which
    of its countable variants a sample is shown: 0 as it is, 1 mirrored, or 0 to K - 1 with `augment.variants=K`.
    """

    ids: Tensor
    x: Tensor
    y: Tensor
    variant: Tensor


def per_epoch(samples: int, batch_size: int, given: int | None) -> int:
    """Updates in an epoch: as `updates_per_epoch` says, or as many full batches as the samples make, one at least."""
    return given or max(1, samples // batch_size)


@dataclass(eq=False)
class ShuffledBatches:
    """Batches of a pool of indices, shuffled anew in each pass over it, cut into epochs of equal length.

    Passes follow each other without a gap: no sample is dropped at the end of an epoch, and every batch is full.
    The batch numbered t holds samples t * batch_size and following of that endless stream. Has `state_dict` and
    `load_state_dict`, which Lightning calls to resume in mid-epoch.
    """

    pool: Tensor
    batch_size: int
    batches_per_epoch: int
    seed: int
    fetch: Callable[[Tensor, int], Any]  # makes a batch of (B,) indices and t
    _: KW_ONLY
    first: int = 0  # the t at which this training starts (a KD stage goes on where its hint stage ended)

    def __post_init__(self) -> None:
        self.batch_size = min(self.batch_size, len(self.pool))
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

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]


class EvalBatches:
    """The samples of a pool in order, once; the last batch may be smaller.

    Of `world` ranks each gets its part of every batch; batches are then of one size, so that none has no part.
    """

    def __init__(self, pool: Tensor, batch_size: int, fetch: Callable[[Tensor], Any], rank: int = 0, world: int = 1):
        batches = pool.split(batch_size)
        self.batches = batches if world == 1 else [part[rank::world] for part in pool.tensor_split(len(batches))]
        self.fetch = fetch

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return map(self.fetch, self.batches)
