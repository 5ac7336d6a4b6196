"""One-stage alternatives: the student's own loss plus a second one at the guided layer. Not FitNets, its controls.

The paper reports two that failed (section 3.1): labels at the guided layer, jointly with labels or KD at the end.
The sum of KD and the teacher's hint, which much public code calls FitNets, is not in the paper; it is ours to compare.
"""

from typing import Any

from torch import Tensor, nn

from fitnets.collective import labelled_in
from fitnets.data.module import Batch
from fitnets.layers import watched
from fitnets.losses import hard_cross_entropy, hint_loss
from fitnets.optim import make_optimizer
from fitnets.stages.answers import Answers
from fitnets.stages.classify import ClassifierModule
from fitnets.stages.kd import KDModule
from fitnets.stages.teacher import outside_tree


class _Joint:
    """What the two modules share: one forward pass gives the logits and the loss at the guided layer.

    `head` is a classifier (labels) or a regressor (hint); it is trained along, kept beside the student, never in it.
    """

    def side_by(self, guided_layer: str, head: nn.Module, hints: Answers | None, reduction: str, facts: dict) -> Any:
        self.guided_layer = guided_layer
        self.side_head = head
        self.reduction = reduction
        self.facts = facts
        outside_tree(self, hints=hints)  # type: ignore[arg-type]
        return self

    def both(self, net: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        with watched(net, self.guided_layer) as outputs:
            logits = net(batch.x)
        answer = self.side_head(outputs[0])
        if self.hints is None:  # type: ignore[attr-defined]
            return logits, hard_cross_entropy(answer, batch.y, labelled_in(batch.y))
        return logits, hint_loss(answer, self.hints(batch), self.reduction)  # type: ignore[attr-defined]

    def findings(self) -> dict[str, Any]:
        return {"hint": self.facts}


class JointBackprop(_Joint, ClassifierModule):
    """Labels at the end and at the guided layer."""

    def training_loss(self, batch: Batch) -> Tensor:
        logits, side = self.both(self.net, batch)
        loss = hard_cross_entropy(logits, batch.y, labelled_in(batch.y)) + side
        self.means.add(loss=loss, side=side)
        return loss

    def configure_optimizers(self) -> Any:
        return make_optimizer(self.net, self.net.parameters(), self.recipe, self.updates, self.side_head)


class JointKD(_Joint, KDModule):
    """KD at the end; labels or the teacher's hint at the guided layer."""

    @property
    def weights(self) -> dict[str, float]:
        return super().weights | {"side": 1.0}

    def training_loss(self, batch: Batch) -> Tensor:
        logits, side = self.both(self.student, batch)
        return self.distill(logits, self.answers(batch), batch.y, side=side)

    def configure_optimizers(self) -> Any:
        return make_optimizer(self.student, self.student.parameters(), self.recipe, self.updates, self.side_head)
