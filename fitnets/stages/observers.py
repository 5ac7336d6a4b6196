"""Callbacks for curricula: what the pool holds, self-paced ranking, and when each sample was learned."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from safetensors.torch import save_file
from torch import Tensor

from fitnets.data.curriculum import GrowingPool
from fitnets.data.module import EVAL_BATCH, Batch, DataModule
from fitnets.layers import eval_mode
from fitnets.runs import Run
from fitnets.stages.means import note

DECILES = 10
LOOKED = ("curriculum/accuracy_decile", "curriculum/clean_accuracy_decile")
LOOKS = 10  # times in a stage, at most, that accuracy is looked at by difficulty
SHARE = 0.01  # of the stage's work that the looks may take together, if they are more than one
LOOKED_AT = 300, 2000  # training samples, at least and at most


def observers(run: Run, data: DataModule, folder: Path) -> list[Callback]:
    """The callbacks that a run's curriculum needs, in the order in which they must run."""
    curriculum = run.spec.get("curriculum", {"name": "none"})
    found: list[Callback] = [LearnedEpoch(data, folder)] if run.spec.get("history") else []
    if curriculum["name"] != "none":
        every = curriculum.get("score", {}).get("every")
        found += [SelfPaced(data, every)] if every else []
        found.append(PoolFigures(data, fixed=not every))
    return found


def plain_batches(data: DataModule, index: Tensor) -> Iterator[Batch]:
    """Training samples as they are, up to EVAL_BATCH at a time, from all over `index` (a file may go class by class);
    with `augment.variants` in their first variant, whose answers are cached."""
    parts = -(-len(index) // EVAL_BATCH)
    for part in (index[number::parts] for number in range(parts)):
        variant = torch.zeros_like(part)
        x = data.variant(part, variant) if data.augment.get("variants") else data.preprocessed(part)
        yield Batch(part, x, data.visible_labels[part], variant)


@torch.no_grad()
def classified(module: Any, data: DataModule, index: Tensor) -> Tensor:
    """The classes (n,) that the network in training takes clean samples for, on the host."""
    net = getattr(module, "student", None) or module.net
    with eval_mode(net):
        return torch.cat([net(data.preprocessed(part)).argmax(1).cpu() for part in index.split(EVAL_BATCH)])


class PoolFigures(Callback):
    """Logs at each epoch's end how large the pool is, how hard its samples are, and how often each decile was shown.

    Deciles are of difficulty, 1 the easiest. Up to ten times in a stage that gives answers, the last at its end: the
    accuracy in each decile, on a fixed part of the training samples, by the labels that training sees; with
    `dataset.label_noise` by the clean ones too. All on the host: nothing here waits for the device at a step.
    """

    def __init__(self, data: DataModule, fixed: bool):
        self.data = data
        self.fixed = fixed  # scored once, before the training
        self.deciles: Sequence[Tensor] = ()  # sample ids
        self.looked_at: list[Tensor] = []
        self.looks = 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        pool = self.batches.pool.sort().values
        if self.fixed and self.data.difficulty is not None:
            self.deciles = pool[self.data.difficulty[pool].argsort(stable=True)].tensor_split(DECILES)
            if hasattr(pl_module, "val_metrics"):  # it gives answers, no hints
                trained_on = self.data.updates * self.batches.batch_size
                may_look_at = int(SHARE * 3 * trained_on)  # a look is a forward pass, an update costs three
                samples = min(LOOKED_AT[1], max(LOOKED_AT[0], may_look_at // LOOKS))
                self.looks = min(LOOKS, max(1, may_look_at // samples))
                self.looked_at = [part[:: max(1, -(-DECILES * len(part) // samples))] for part in self.deciles]

    @property
    def batches(self) -> GrowingPool:
        assert isinstance(self.data.train_batches, GrowingPool)
        return self.data.train_batches

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        batches = self.batches
        pool = batches.pool[: batches.admitted]
        figures = {"pool_size": float(len(pool)), "pool_fraction": len(pool) / len(batches.pool)}
        if self.data.difficulty is not None:
            difficulty = self.data.difficulty[pool].sort().values
            figures["difficulty_mean"] = float(difficulty.mean())
            for percent in (10, 50, 90):
                figures[f"difficulty_q{percent}"] = float(difficulty[percent * (len(difficulty) - 1) // 100])
        for number, part in enumerate(self.deciles, 1):
            figures[f"shown_decile{number:02}"] = float(batches.shown[part].sum() / batches.shown.sum())
        for name in [name for name in trainer.callback_metrics if name.startswith(LOOKED)]:
            del trainer.callback_metrics[name]  # a look stands for its own epoch only
        epochs, epoch = trainer.max_epochs or 1, trainer.current_epoch + 1
        if self.looked_at and epoch * self.looks // epochs > (epoch - 1) * self.looks // epochs:
            figures |= self.accuracies(pl_module)
        note(pl_module, {f"curriculum/{name}": value for name, value in figures.items()})

    def accuracies(self, pl_module: Any) -> dict[str, float]:
        index = torch.cat(self.looked_at)
        answers, images = classified(pl_module, self.data, index), self.data.images
        assert images is not None
        labels = {"accuracy": self.data.given_labels}
        if self.data.dataset.get("label_noise"):
            labels["clean_accuracy"] = images.labels.cpu()
        figures: dict[str, float] = {}
        for name, of_sample in labels.items():
            right = (answers == of_sample[index]).float().split([len(part) for part in self.looked_at])
            figures |= {f"{name}_decile{number:02}": float(part.mean()) for number, part in enumerate(right, 1)}
        return figures


class SelfPaced(Callback):
    """Ranks all samples by the loss of the network as it is, every `every` updates (self-paced learning)."""

    def __init__(self, data: DataModule, every: int):
        self.data = data
        self.every = every

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
        batches = self.data.train_batches
        assert isinstance(batches, GrowingPool)
        pool = batches.pool.sort().values
        difficulty = torch.full((len(self.data.given_labels),), torch.nan, dtype=torch.float64)
        with eval_mode(pl_module):
            for batch in plain_batches(self.data, pool):
                difficulty[batch.ids] = pl_module.sample_losses(batch).double().cpu()
        # Ranks see other batch norm statistics: the first one's word counts, so that all hold the same pool.
        self.data.difficulty = trainer.strategy.broadcast(difficulty)
        batches.rank_again(self.data.ranked(pool, self.data.difficulty))

    def state_dict(self) -> dict[str, Any]:
        return {"difficulty": self.data.difficulty}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.data.difficulty = state_dict["difficulty"]


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
            save_file({"epoch": self.since}, self.folder / "learned_epoch.safetensors")

    def state_dict(self) -> dict[str, Any]:
        return {"since": self.since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.since = state_dict["since"]
