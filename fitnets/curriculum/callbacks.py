"""Callbacks for curricula: what the pool holds, self-paced ranking, and when each sample was learned."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from safetensors.torch import save
from torch import Tensor

from fitnets.curriculum.pool import GrowingPool
from fitnets.data.module import EVAL_BATCH, Batch, DataModule
from fitnets.files import write
from fitnets.models.layers import eval_mode
from fitnets.store import NO_CURRICULUM, Run

DECILES = 10
LAST_LOOK = ("curriculum/accuracy_decile", "curriculum/clean_accuracy_decile")
LOOKS = 10  # times in a stage, at most, that accuracy is looked at by difficulty
SHARE = 0.01  # of the stage's time that the looks may take together, if they are more than one
SAMPLES_LOOKED_AT = 300, 2000  # training samples, at least and at most


def callbacks_of(run: Run, data: DataModule, folder: Path) -> list[Callback]:
    """The callbacks that a run's curriculum needs, in the order in which they must run."""
    spec = run.spec.get("curriculum", NO_CURRICULUM)
    found: list[Callback] = [LearnedEpoch(data, folder)] if run.spec.get("history") else []
    if spec != NO_CURRICULUM:
        every = spec.get("score", {}).get("every")
        if every:
            found.append(SelfPaced(data, every))
        found.append(PoolFigures(data, fixed=not every))
    return found


def plain_batches(data: DataModule, index: Tensor) -> Iterator[Batch]:
    """Training samples as they are, up to EVAL_BATCH at a time, from all over `index` (a file may go class by class);
    with `augment.variants` in their first variant, whose answers are cached."""
    count = -(-len(index) // EVAL_BATCH)
    for ids in (index[number::count] for number in range(count)):
        variant = torch.zeros_like(ids)
        x = data.variant(ids, variant) if data.augment.get("variants") else data.preprocessed(ids)
        yield Batch(ids, x, data.visible_labels[ids], variant)


@torch.no_grad()
def classified(module: Any, data: DataModule, index: Tensor) -> Tensor:
    """The classes (n,) that the network in training takes clean samples for, on the host."""
    with eval_mode(module):
        return torch.cat([module(data.preprocessed(part)).argmax(1).cpu() for part in index.split(EVAL_BATCH)])


@dataclass(eq=False)
class PoolFigures(Callback):
    """Logs at each epoch's end how large the pool is, how hard its samples are, and how often each decile was drawn.

    Deciles are of difficulty, 1 the easiest. Up to ten times in a stage that gives answers, the last at its end: the
    accuracy in each decile, on a fixed part of the training samples, by the labels that training sees; with
    `dataset.label_noise` by the clean ones too. All on the host: nothing here waits for the device at a step.
    """

    data: DataModule
    fixed: bool  # scored once, before the training
    deciles: Sequence[Tensor] = ()  # sample ids
    looked_at: Sequence[Tensor] = ()
    looks: int = 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        difficulty, batches = self.data.sampler.difficulty, self.data.train_batches
        if not self.fixed or difficulty is None:
            return
        pool = batches.pool.sort().values
        self.deciles = pool[difficulty[pool].argsort(stable=True)].tensor_split(DECILES)
        if pl_module.classifies:
            may_look_at = int(SHARE * 3 * (self.data.updates * batches.batch_size))  # an update costs three forward
            samples = min(SAMPLES_LOOKED_AT[1], max(SAMPLES_LOOKED_AT[0], may_look_at // LOOKS))
            self.looks = min(LOOKS, max(1, may_look_at // samples))
            self.looked_at = [part[:: max(1, -(-DECILES * len(part) // samples))] for part in self.deciles]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        batches, difficulty = self.data.train_batches, self.data.sampler.difficulty
        assert isinstance(batches, GrowingPool)
        pool = batches.pool[: batches.admitted]
        figures: dict[str, Any] = {"pool_size": float(len(pool)), "pool_fraction": len(pool) / len(batches.pool)}
        if difficulty is not None:
            of_pool = difficulty[pool].sort().values
            figures["difficulty_mean"] = float(of_pool.mean())
            for percent in (10, 50, 90):
                figures[f"difficulty_q{percent}"] = float(of_pool[percent * (len(of_pool) - 1) // 100])
        for number, part in enumerate(self.deciles, 1):
            figures[f"shown_decile{number:02}"] = float(batches.times_drawn[part].sum() / batches.times_drawn.sum())
        for name in [name for name in trainer.callback_metrics if name.startswith(LAST_LOOK)]:
            del trainer.callback_metrics[name]  # a look stands for its own epoch only
        epochs, epoch = trainer.max_epochs or 1, trainer.current_epoch + 1
        if self.looked_at and epoch * self.looks // epochs > (epoch - 1) * self.looks // epochs:
            figures |= self.accuracies(pl_module)
        trainer.callback_metrics.update({f"curriculum/{name}": value for name, value in figures.items()})

    def accuracies(self, pl_module: Any) -> dict[str, float]:
        index = torch.cat(list(self.looked_at))
        answers = classified(pl_module, self.data, index)
        labels = {"accuracy": self.data.given_labels}
        if self.data.dataset.get("label_noise"):
            labels["clean_accuracy"] = self.data.images.labels.cpu()
        figures = {}
        for name, of_sample in labels.items():
            right = (answers == of_sample[index]).float().split([len(part) for part in self.looked_at])
            for number, part in enumerate(right, 1):
                figures[f"{name}_decile{number:02}"] = float(part.mean())
        return figures


@dataclass(eq=False)
class SelfPaced(Callback):
    """Ranks all samples by the loss of the network as it is (self-paced learning)."""

    data: DataModule
    every: int  # updates

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.global_step == 0:
            self._rank(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        batches = self.data.train_batches
        growing = isinstance(batches, GrowingPool) and batches.admitted < len(batches.pool)  # else all are in anyway
        if growing and trainer.global_step % self.every == 0:
            self._rank(trainer, pl_module)

    @torch.no_grad()
    def _rank(self, trainer: Trainer, pl_module: Any) -> None:
        batches, sampler = self.data.train_batches, self.data.sampler
        assert isinstance(batches, GrowingPool)
        pool = batches.pool.sort().values
        difficulty = torch.full((len(self.data.given_labels),), torch.nan, dtype=torch.float64)
        with eval_mode(pl_module):
            for batch in plain_batches(self.data, pool):
                difficulty[batch.ids] = pl_module.sample_losses(batch).double().cpu()
        # Ranks see other batch norm statistics: the first one's word counts, so that all hold the same pool.
        sampler.difficulty = trainer.strategy.broadcast(difficulty)
        batches.rank_again(sampler.ranked(self.data, pool))

    def state_dict(self) -> dict[str, Any]:
        return {"difficulty": self.data.sampler.difficulty}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.data.sampler.difficulty = state_dict["difficulty"]


class LearnedEpoch(Callback):
    """Writes learned_epoch.safetensors: by training sample, the first epoch from which it stayed right to the end."""

    def __init__(self, data: DataModule, folder: Path):
        self.data = data
        self.folder = folder
        self.since = torch.ones(len(data.train_index), dtype=torch.long)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        index = self.data.train_index
        right = classified(pl_module, self.data, index) == self.data.given_labels[index]
        self.since[~right] = trainer.current_epoch + 2  # right from the next epoch on at the earliest

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            write(self.folder / "learned_epoch.safetensors", save({"epoch": self.since}))

    def state_dict(self) -> dict[str, Any]:
        return {"since": self.since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.since = state_dict["since"]
