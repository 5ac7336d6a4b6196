"""A training stopped anywhere, as a kill would stop it."""

from typing import Any

import pytorch_lightning as pl


class Stop(Exception):
    pass


class StopAt(pl.Callback):
    """Stops right before the given update; or at the end of the given epoch."""

    def __init__(self, update: int | None = None, epoch: int | None = None):
        self.update, self.epoch = update, epoch

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.update:
            raise Stop

    def on_validation_start(self, trainer: Any, *_: Any) -> None:
        if self.epoch is not None and trainer.current_epoch == self.epoch:
            raise Stop
