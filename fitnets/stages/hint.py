"""Stage 1: the student's guided layer learns to predict the teacher's hint layer through a regressor.

Neither network runs past its named layer, and no label is used (paper section 2.2, eq. 3).
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.regression import R2Score

from fitnets.data.module import Batch
from fitnets.layers import Cut, Shape, guided_parameters
from fitnets.losses import hint_loss, unexplained
from fitnets.optim import make_optimizer
from fitnets.stages.answers import Answers
from fitnets.stages.means import note
from fitnets.stages.stage import StageModule
from fitnets.stages.teacher import FrozenTeacher, outside_tree


class HintModule(StageModule):
    """Trains the guided half and the regressor; everything above the guided layer stays as it was, bit for bit.

    `hints(batch)` gives the teacher's hint layer, (B, C, H, W) or (B, D). The student is kept whole; the
    regressor is kept beside it, never in it. Best is the lowest validation hint loss. `facts` (which layers, which
    regressor and why) go into result.json.
    """

    teacher: FrozenTeacher  # cut at the hint layer
    hints: Answers
    best_by = (("val/hint_loss", "min"),)

    def __init__(
        self,
        student: nn.Module,
        guided_layer: str,
        teacher: FrozenTeacher,
        hints: Answers,
        regressor: nn.Module,
        reduction: str,
        input_shape: Shape,
        recipe: Mapping[str, Any],
        updates: int,
        facts: Mapping[str, Any],
    ):
        super().__init__()
        self.guided = Cut(student, guided_layer)
        self.regressor = regressor
        self.nets = {"student": student, "regressor": self.regressor}
        self.trained = guided_parameters(student, guided_layer, input_shape)
        outside_tree(self, teacher=teacher, hints=hints)
        self.facts = facts
        self.reduction = reduction
        self.recipe = recipe
        self.updates = updates
        self.val_loss = MeanMetric()
        self.val_r2 = R2Score(multioutput="variance_weighted")

    def training_loss(self, batch: Batch) -> Tensor:
        predicted = self.regressor(self.guided(batch.x))
        loss = hint_loss(predicted, self.hints(batch), self.reduction)
        self.means.add(hint_loss=loss)
        return loss

    def sample_losses(self, batch: Batch) -> Tensor:
        """(B,) what self-paced learning ranks by: 1 - R2 of each sample, with the mean hint of the batch."""
        hint = self.hints(batch)
        return unexplained(self.regressor(self.guided(batch.x)), hint, hint.mean(0))

    def on_train_epoch_end(self) -> None:
        note(self, {f"train/{name}": value for name, value in self.means.take().items()})

    def validation_step(self, batch: Batch, _batch_number: int) -> None:
        predicted, hint = self.regressor(self.guided(batch.x)), self.hints(batch)
        self.val_loss.update(hint_loss(predicted, hint, self.reduction), weight=len(hint))
        self.val_r2.update(predicted.flatten(1), hint.flatten(1))

    def on_validation_epoch_end(self) -> None:
        note(self, {"val/hint_loss": self.val_loss.compute(), "val/r2": self.val_r2.compute()})
        self.val_loss.reset()
        self.val_r2.reset()

    def configure_optimizers(self) -> Any:
        return make_optimizer(self.guided, self.trained, self.recipe, self.updates, self.regressor)

    def findings(self) -> dict[str, Any]:
        return {"hint": dict(self.facts)}
