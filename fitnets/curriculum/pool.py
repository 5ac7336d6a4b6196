"""A curriculum as an order of samples: a pool that grows from the first ones of a ranking to all of them.

It is a sampler, not a weighting: whoever is in the pool counts the same. Difficulty is higher for harder samples.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fitnets.components import builder
from fitnets.data.batch import ShuffledBatches
from fitnets.seeds import derive

AHEAD = 16  # batches drawn at a time


def ranking(order: str, pool: Tensor, difficulty: Tensor | None, seed: int, balanced: Tensor | None = None) -> Tensor:
    """The sample ids of `pool` (n,), int64, in the order in which they are admitted.

    `difficulty` (N,) is by sample id. Equal ones come in a random order by `seed`, not in that of the file. `balanced`
    (N,) holds labels by sample id: classes then take turns, each in its own order (both official codes do this).
    """
    ranked = pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(derive(seed, "ranking")))]
    if order != "random":
        assert difficulty is not None
        ranked = ranked[difficulty[ranked].argsort(stable=True, descending=order == "hard_to_easy")]
    if balanced is None:
        return ranked
    turn = torch.empty_like(ranked)  # how many of its own class come before a sample
    for label in balanced[ranked].unique():
        of_class = (balanced[ranked] == label).nonzero().flatten()
        turn[of_class] = torch.arange(len(of_class))
    return ranked[turn.argsort(stable=True)]


def pool_size(fraction: float, samples: int, batch_size: int) -> int:
    """Samples in the pool: a fraction of all, at least one batch, at most all."""
    return min(samples, max(batch_size, round(min(1.0, fraction) * samples)))


@dataclass(eq=False)
class GrowingPool(ShuffledBatches):
    """Batches of the first samples of a ranking, ever more of them, in the end all.

    A pass shows every sample of the pool once, in random order; samples that are admitted during a pass are mixed
    into what is left of it, which is the state that a checkpoint holds. The size and what is drawn depend on the number
    of the batch and the seed alone, so all arms make the same updates, and all ranks hold the same state.

    Batches are drawn some at a time: between two updates the same takes five times as long, as the network has put
    everything else out of the processor's caches (2 % of a step on digits).
    """

    _: KW_ONLY
    fraction: Callable[[int], float]  # in the pool, by an update's number within this stage

    def __post_init__(self) -> None:
        super().__post_init__()
        self.left = torch.empty(0, dtype=torch.long)  # of this pass, in order
        self.admitted = 0
        self._ahead: deque[tuple[Tensor, Tensor, int]] = deque()  # batches to come; `left` and `admitted` after each
        self._given: list[Tensor] = []  # batches that are not counted yet
        self._times_drawn = torch.zeros(int(self.pool.max()) + 1, dtype=torch.long)

    def indices(self, t: int) -> Tensor:
        """Sample ids of batch t, (batch_size,); batches are asked for in their order."""
        if not self._ahead:
            left, admitted = self.left, self.admitted
            for number in range(t, t + AHEAD):
                batch, left, admitted = self._drawn(number, left, admitted)
                self._ahead.append((batch, left, admitted))
        batch, self.left, self.admitted = self._ahead.popleft()
        self._given.append(batch)
        return batch

    def _drawn(self, t: int, left: Tensor, admitted: int) -> tuple[Tensor, Tensor, int]:
        """Batch t, given what is left of the pass and how many were admitted before it; both after it."""
        grown = max(admitted, pool_size(self.fraction(t - self.first), len(self.pool), self.batch_size))
        if grown > admitted or len(left) < self.batch_size:  # else nothing is drawn
            draw = np.random.default_rng(derive(self.seed, "pool", t))
        if len(left) and grown > admitted:
            left = _mixed(left, self.pool[admitted:grown], draw)
        batch = left[: self.batch_size]
        left = left[self.batch_size :]
        while (missing := self.batch_size - len(batch)) > 0:
            left = self.pool[:grown][torch.from_numpy(draw.permutation(grown))]
            batch, left = torch.cat([batch, left[:missing]]), left[missing:]
        return batch, left, grown

    @property
    def times_drawn(self) -> Tensor:
        """How often each sample was in a batch, by sample id."""
        if self._given:
            given = torch.cat(self._given)
            self._times_drawn.index_add_(0, given, torch.ones_like(given))
            self._given = []
        return self._times_drawn

    def rank_again(self, ranked: Tensor) -> None:
        """Another ranking of the same samples: a new pass over the pool begins (self-paced learning)."""
        self.pool = ranked
        self.left = self.left[:0]
        self._ahead.clear()

    def state_dict(self) -> dict[str, Any]:
        tensors = {"left": self.left, "times_drawn": self.times_drawn, "ranked": self.pool}
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        return super().state_dict() | copies | {"admitted": self.admitted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.left, self.admitted, self._times_drawn = state["left"], state["admitted"], state["times_drawn"]
        self._given = []
        self.pool = state["ranked"]
        self._ahead.clear()


def _mixed(left: Tensor, new: Tensor, draw: np.random.Generator) -> Tensor:
    """`new` put into `left` at random places: again a random order, the old ones' own order kept."""
    total = len(left) + len(new)
    places = draw.choice(total, len(new), replace=False)
    old = np.ones(total, dtype=bool)
    old[places] = False
    mixed = np.empty(total, dtype=np.int64)
    mixed[places] = new.numpy()
    mixed[old] = left.numpy()
    return torch.from_numpy(mixed)


def pacing(spec: Mapping[str, Any], updates: int, batches_per_epoch: int) -> Callable[[int], float]:
    """The fraction of the samples that may be drawn at an update, as `curriculum.pacing` describes it.

    It is asked for no update after the last; batches drawn ahead of the stage's end are as at that.
    """
    paced = builder({key: value for key, value in spec.items() if key != "name"})
    return lambda update: paced(min(update, updates - 1), updates, batches_per_epoch)


@dataclass
class Curriculum:
    """The curriculum of a training: its spec, and how hard each sample is (N,) by id, None where that is not known."""

    spec: Mapping[str, Any]
    difficulty: Tensor | None

    def batches(self, data: Any, pool: Tensor, first: int) -> GrowingPool:
        """The batches of a training on the samples of `pool`, from batch `first` on."""
        size, count, ranked = data.batch_size, data.batches_per_epoch, self.ranked(data, pool)
        pace = pacing(self.spec["pacing"], data.updates, count)
        return GrowingPool(ranked, size, count, data.seed, data.train_batch, fraction=pace, first=first)

    def ranked(self, data: Any, pool: Tensor) -> Tensor:
        """The pool's sample ids in the order in which the curriculum admits them."""
        order = self.spec["order"]["name"]
        if self.difficulty is None and order != "random":
            if "every" not in self.spec["score"]:
                raise ValueError(f"the curriculum {order} has no score to rank by")
            order = "random"  # self-paced: ranked before the first update
        balanced = data.given_labels.cpu() if self.spec["balanced"] else None
        return ranking(order, pool, self.difficulty, data.seed, balanced)
