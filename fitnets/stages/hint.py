"""Stage 1: the student's guided layer learns to predict the teacher's hint layer through a regressor.

Neither network runs past its named layer, and no label is used (paper section 2.2, eq. 3).
"""

from typing import Any

from torch import Tensor, nn
from torchmetrics.regression import R2Score

from fitnets.data.batch import Batch
from fitnets.losses.features import joined
from fitnets.losses.objective import Objective, Outputs, weighted_sum
from fitnets.models.layers import Tap, guided_parameters
from fitnets.stages.base import Answers, Stage, StageInputs, epoch_weights, objective_of, publish
from fitnets.stages.pairs import layer_pairs
from fitnets.stages.supervised import mean_of_all
from fitnets.stages.teacher import FrozenTeacher, outside_tree


class Hint(Stage):
    """Trains the guided half and what the objective learns; everything above the guided layer stays, bit for bit.

    The objective (`hint_loss`) compares the features at the pairs of layers that `hint` names. Best is the lowest
    validation hint loss. What the objective has learned (the regressor) is kept beside the student, never in it.
    """

    guided: Tap
    teacher: FrozenTeacher
    hints: Answers
    objective: Objective | None = None  # none where a class's own terms do without
    best_by = (("val/hint_loss", "min"),)
    total = "hint_loss"
    classifies = False

    def __init__(self, inputs: StageInputs):
        super().__init__(inputs)
        answers = self.teacher_answers()
        self.pairs = layer_pairs(inputs)
        layers = [pair.student_layer for pair in self.pairs]
        hint_layers = [pair.teacher_layer for pair in self.pairs]
        self.trained = guided_parameters(self.net, layers, inputs.input_shape)
        assert inputs.teacher is not None
        outside_tree(
            self,
            guided=Tap(self.net, layers, inputs.input_shape, to_end=False),
            teacher=FrozenTeacher(Tap(inputs.teacher, hint_layers, inputs.input_shape, to_end=False)),
            hints=answers(hint_layers, False),
        )
        outside_tree(self, objective=objective_of(self, "hint_loss", "terms", self.pairs))
        self.val_loss = mean_of_all()
        self.val_r2 = R2Score(multioutput="variance_weighted")

    def features(self, x: Tensor) -> Outputs:
        """The student's features at the guided layers."""
        return Outputs(None, self.guided(x)[1])

    def weights(self) -> dict[str, float]:
        return epoch_weights(self, self.objective)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        assert self.objective is not None
        return self.objective(self.features(batch.x), self.hints(batch), batch)

    def sample_losses(self, batch: Batch) -> Tensor:
        if self.objective is None or not hasattr(self.objective.body, "sample_losses"):
            return super().sample_losses(batch)
        return self.objective.body.sample_losses(self.features(batch.x), self.hints(batch))

    def validation_step(self, batch: Batch, _batch_number: int) -> None:
        if self.objective is not None and self.predicts:
            student, hints = self.features(batch.x), self.hints(batch)
            self.val_r2.update(joined(self.objective.body.predicted(student.features)), joined(hints.features))
            ours = type(self).terms is Hint.terms  # which would run the networks again
            terms = self.objective(student, hints, batch) if ours else self.terms(batch)
        else:
            terms = self.terms(batch)
        self.val_loss.update(weighted_sum(terms, self.weights()), weight=len(batch.ids))

    def on_validation_epoch_end(self) -> None:
        publish(self, {"val/hint_loss": self.val_loss.compute()})
        if self.predicts:
            publish(self, {"val/r2": self.val_r2.compute()})
        self.val_loss.reset()
        self.val_r2.reset()

    @property
    def predicts(self) -> bool:
        """Whether the objective makes a prediction of the hint, which can be shown and has an R2."""
        return self.objective is not None and hasattr(self.objective.body, "predicted")

    def prediction(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The hints of images, and what the regressor makes of the guided layers."""
        assert self.objective is not None
        return list(self.teacher(x)[1]), self.objective.body.predicted(self.guided(x)[1])

    def hint_maps(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.predicts:
            return None
        hints, predicted = self.prediction(x)
        return hints[0], predicted[0]

    def compiled_modules(self) -> list[nn.Module]:
        return [self.guided, *([self.objective] if self.objective else [])]

    def findings(self) -> dict[str, Any]:
        return hint_findings(self)


def hint_findings(stage: Any) -> dict[str, Any]:
    """Which layers were compared, and what the objective says of itself."""
    layers = {
        "hint_layer": ", ".join(pair.teacher_layer for pair in stage.pairs),
        "guided_layer": ", ".join(pair.student_layer for pair in stage.pairs),
    }
    return {"hint": layers | (stage.objective.description() if stage.objective else {})}
