"""The callback that keeps what a stage must not lose: figures over time, best weights, everything to resume."""

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from fitnets.distributed import by_rank
from fitnets.files import as_json, read_json, sha256, told, whole, write
from fitnets.store import CHECKPOINT, EPOCHS

SHARE = 1 / 300  # of the time that saving may take
TOGETHER = 50  # batches between two looks at the clock where ranks must agree to save
Weights = dict[str, dict[str, Tensor]]  # by network ("student", "regressor", "teacher"), then by tensor


class Recorder(Checkpoint):  # a Checkpoint runs last, when the epoch's figures are complete
    """Writes `metrics.csv` (a row an epoch), holds the best weights, and saves `last.ckpt`.

    It saves every `checkpoint_seconds`, less often where saving is slow (0: after every update).
    A stage resumed from `last.ckpt` ends bit-equal: beside Lightning's own state it holds the history, the best
    weights so far, torch's random state and the running averages; the data order's position is kept by its loader.
    When it is saved has no influence on the result.
    """

    def __init__(self, folder: Path, checkpoint_seconds: float, patience: int | None = None):
        self.folder = folder
        self.checkpoint_seconds = checkpoint_seconds
        self.patience = patience  # epochs without a strictly better first figure of `best_by`; None: no limit
        self.improved = (-math.inf, 0)  # that figure (larger is better) and its epoch
        self.history: list[dict[str, float]] = []
        self.columns: list[str] = []  # of metrics.csv, as far as this process has written it
        self.best: dict[str, Any] | None = None  # rank, epoch, weights
        self.seconds_before = 0.0
        self.pause = 0.0
        self.on_row: Callable[[dict[str, float], bool], None] = lambda row, new: None  # other loggers, of each row
        self._random_state: list[Tensor] | None = None

    # ------------------------------------------------------------------------------ during training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = self.saved = time.monotonic()
        for row in self.history:  # of a resumed stage: each start tells the whole of it
            self.on_row(row, False)
        if self._random_state is not None:
            torch.set_rng_state(self._random_state[0])
            if len(self._random_state) > 1:
                torch.cuda.set_rng_state(self._random_state[1])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        asked = trainer.world_size == 1 or not self.checkpoint_seconds or batch_idx % TOGETHER == 0
        if asked and not trainer.is_last_batch:  # an epoch's last batch is saved with the epoch, after validation
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        figures = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        row = {"epoch": trainer.current_epoch + 1, "updates": trainer.global_step}
        row["train/lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        self.history.append(row | figures)
        if trainer.enable_validation:
            rank = [figures[name] * (1 if mode == "max" else -1) for name, mode in pl_module.best_by]
            rank = [-math.inf if math.isnan(figure) else figure for figure in rank]  # else a first NaN stays the best
            if self.best is None or rank > self.best["rank"]:
                weights = {name: copied(net.state_dict()) for name, net in pl_module.nets.items()}
                self.best = {"rank": rank, "epoch": trainer.current_epoch + 1, "weights": weights}
            if rank[0] > self.improved[0]:
                self.improved = (rank[0], trainer.current_epoch + 1)
            if self.patience is not None and trainer.current_epoch + 1 - self.improved[1] >= self.patience:
                trainer.should_stop = True
        if trainer.is_global_zero:
            self.write_rows()
        self.on_row(self.history[-1], True)
        if trainer.current_epoch + 1 < (trainer.max_epochs or 0) and not trainer.should_stop:
            self._save_if_due(trainer)

    def _save_if_due(self, trainer: Trainer) -> None:
        now = time.monotonic()
        due = now - self.saved >= max(self.checkpoint_seconds, self.pause)
        if trainer.world_size > 1:
            due = trainer.strategy.broadcast(due)  # rank 0's clock decides for all
        if due:
            self._save(trainer)
            self.saved = time.monotonic()
            self.pause = (self.saved - now) / SHARE if self.checkpoint_seconds else 0.0

    def _save(self, trainer: Trainer) -> None:
        """Write last.ckpt whole, and first its hash beside those before: a kill between leaves one that is known."""
        trainer.lightning_module.losses.look()  # type: ignore[union-attr, operator]  # none is kept of a loss of NaN
        last = self.folder / CHECKPOINT
        if not trainer.is_global_zero:
            trainer.save_checkpoint(last)  # of which rank 0 alone writes
            return
        with whole(last) as partial:
            trainer.save_checkpoint(partial)
            before = list((read_json(self.folder / EPOCHS) or {}).items())
            write(self.folder / EPOCHS, as_json({sha256(partial): len(self.history) + 1} | dict(before[:2])))

    def write_rows(self, anew: bool = False) -> None:
        """Append the last row; where it has a new figure, after a resume and at the end, write all rows anew."""
        anew = anew or not self.history[-1].keys() <= set(self.columns)
        if anew:
            self.columns = list(dict.fromkeys(name for row in self.history for name in row))
        path = self.folder / "metrics.csv"
        with told(path), open(path, "w" if anew else "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            if anew:
                writer.writeheader()
            writer.writerows(self.history if anew else self.history[-1:])

    # ------------------------------------------------------------------------------------- after it

    @property
    def seconds(self) -> float:
        """Wall time in training, also before an interruption."""
        return self.seconds_before + time.monotonic() - self.started

    def keep(self, pl_module: Any, which: str) -> dict[str, float]:
        """Put the best weights back into the stage's networks, or leave the `last`; the kept epoch's figures."""
        if which == "last" or self.best is None:
            return self.history[-1]
        for name, net in pl_module.nets.items():
            net.load_state_dict(self.best["weights"][name], strict=True)
        return self.history[int(self.best["epoch"]) - 1]

    # ----------------------------------------------------------------------------------- checkpoint

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        random_state = [torch.get_rng_state()]
        if torch.cuda.is_initialized():
            random_state.append(torch.cuda.get_rng_state())
        checkpoint["recorder"] = {
            "history": self.history,
            "best": self.best,
            "improved": list(self.improved),
            "seconds": self.seconds,
            "ranks": by_rank({"random_state": random_state, "averages": pl_module.averages.state_dict()}),
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["recorder"]
        self.history = state["history"]
        self.best = state["best"]
        self.improved = tuple(state["improved"])
        self.seconds_before = state["seconds"]
        ranks = state["ranks"]
        own = ranks[trainer.global_rank if len(ranks) == trainer.world_size else 0]
        self._random_state = own["random_state"]
        pl_module.averages.load_state_dict(own["averages"])


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
