"""A curriculum as an order of samples: a pool that grows from the first ones of a ranking to all of them.

It is a sampler, not a weighting: whoever is in the pool counts the same. Difficulty is higher for harder samples.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fitnets.components import builder
from fitnets.data.batches import ShuffledBatches
from fitnets.seeds import derive

AHEAD = 16  # batches drawn at a time


def ranking(order: str, pool: Tensor, difficulty: Tensor | None, seed: int, balanced: Tensor | None = None) -> Tensor:
    """The sample ids of `pool` (n,), int64, in the order in which they are admitted.

    `difficulty` (N,) is by sample id. Equal ones come in a random order by `seed`, not in that of the file. `balanced`
    (N,) holds labels by sample id: classes then take turns, each in its own order (both official codes do this).
    """
    shuffled = pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(derive(seed, "ranking")))]
    if order == "random":
        ranked = shuffled
    else:
        assert difficulty is not None
        ranked = shuffled[difficulty[shuffled].argsort(stable=True, descending=order == "hard_to_easy")]
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


class GrowingPool(ShuffledBatches):
    """Batches of the first samples of a ranking, ever more of them, in the end all.

    A pass shows every sample of the pool once, in random order; samples that are admitted during a pass are mixed
    into what is left of it. The size at each update is a function of the update's number alone, so all arms make the
    same updates. What is drawn depends on the seed and the number of the batch; the rest of the pass is the state that
    a checkpoint holds, so a resumed training gets the same next batch. Ranks of a distributed training hold the same
    state and take their parts of the same batch.

    Batches are drawn some at a time: between two updates the same work takes five times as long, as the network has
    put everything else out of the processor's caches (2 % of a step on digits).
    """

    def __init__(
        self,
        ranked: Tensor,
        batch_size: int,
        batches_per_epoch: int,
        seed: int,
        fetch: Callable[[Tensor, int], Any],
        fraction: Callable[[int], float],
        first: int = 0,
    ):
        super().__init__(ranked, batch_size, batches_per_epoch, seed, fetch, first)
        self.fraction = fraction  # of an update's number within this stage
        self.left = torch.empty(0, dtype=torch.long)  # of this pass, in order
        self.admitted = 0
        self._ahead: deque[tuple[Tensor, Tensor, int]] = deque()  # batches to come; `left` and `admitted` after each
        self._given: list[Tensor] = []  # batches that are not counted yet
        self._shown = torch.zeros(int(ranked.max()) + 1, dtype=torch.long)

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
        parts, missing = [], self.batch_size
        while missing > 0:
            if not len(left):
                left = self.pool[:grown][torch.from_numpy(draw.permutation(grown))]
            parts.append(left[:missing])
            left = left[missing:]
            missing -= len(parts[-1])
        return torch.cat(parts), left, grown

    @property
    def shown(self) -> Tensor:
        """How often each sample was in a batch, by sample id."""
        if self._given:
            given = torch.cat(self._given)
            self._shown.index_add_(0, given, torch.ones_like(given))
            self._given = []
        return self._shown

    def rank_again(self, ranked: Tensor) -> None:
        """Another ranking of the same samples: a new pass over the pool begins (self-paced learning)."""
        self.pool = ranked
        self.left = self.left[:0]
        self._ahead.clear()

    def state_dict(self) -> dict[str, Any]:
        tensors = {"left": self.left, "shown": self.shown, "ranked": self.pool}
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        return super().state_dict() | copies | {"admitted": self.admitted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.left, self._shown, self.pool = (state[name] for name in ("left", "shown", "ranked"))
        self.admitted = state["admitted"]
        self._given = []
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

    Batches drawn ahead of the stage's end are as at its last update: a pacing is asked for no other.
    """
    options = {key: value for key, value in spec.items() if key != "name"}
    paced = builder(options)
    return lambda update: paced(min(update, updates - 1), updates, batches_per_epoch)
