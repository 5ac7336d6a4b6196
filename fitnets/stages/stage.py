"""What the modules of all stages share: how one update is made."""

from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from fitnets.data.module import Batch
from fitnets.stages.means import Means


class StageModule(LightningModule):
    """A stage says what its loss is; an update follows the loss's gradient, and the schedules move by it.

    Lightning's automatic optimization does the same behind a dozen hooks that no stage uses: 3 % of a step on digits.
    Where there is something for its strategy or precision to do, several devices or 16 bits, they are asked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.means = Means()  # of the epoch's training figures

    def training_loss(self, batch: Batch) -> Tensor:
        """The loss of a training batch, a scalar; adds its terms to `means`."""
        raise NotImplementedError

    def training_step(self, batch: Batch, _batch_number: int) -> Tensor:
        loss = self.training_loss(batch)
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        if self.trainer.world_size == 1 and not torch.is_autocast_enabled(loss.device.type):
            loss.backward()
        else:
            with torch.autocast(loss.device.type, enabled=False):  # a backward pass runs in its forward's types
                self.manual_backward(loss)
        optimizer.step()
        if schedule := self.lr_schedulers():
            schedule.step()  # type: ignore[union-attr]
        return loss.detach()
