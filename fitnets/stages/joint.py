"""One-stage alternatives: the student's own loss plus a second one at the guided layer. Not FitNets, its controls.

The paper reports two that failed (section 3.1): labels at the guided layer, jointly with labels or KD at the end.
The sum of KD and the teacher's hint, which much public code calls FitNets, is not in the paper; it is ours to compare,
as is labels and a feature objective, which is how the field trains most of them.
"""

from typing import Any

from torch import Tensor, nn

from fitnets.data.batch import Batch
from fitnets.losses.logits import hard_cross_entropy
from fitnets.losses.objective import Objective, Outputs
from fitnets.models.layers import Tap
from fitnets.stages.base import Answers, StageInputs, epoch_weights, objective_of
from fitnets.stages.hint import hint_findings
from fitnets.stages.kd import KD
from fitnets.stages.pairs import layer_pairs
from fitnets.stages.supervised import Supervised, label_head, label_hint_findings
from fitnets.stages.teacher import outside_tree


class _LabelAtGuidedLayer(Supervised):
    """Adds to a stage the labels' loss at the guided layer, through a classifier that is thrown away."""

    head: nn.Module
    tap: Tap

    def __init__(self, inputs: StageInputs):
        super().__init__(inputs)
        self.guided_layer, head = label_head(inputs)
        self.projector.append(head)
        outside_tree(self, head=head, tap=Tap(self.net, [self.guided_layer], inputs.input_shape))

    def side_terms(self, features: tuple[Tensor, ...], batch: Batch) -> dict[str, Tensor]:
        return {"side": hard_cross_entropy(self.head(features[0]), batch.y)}

    def compiled_modules(self) -> list[nn.Module]:
        return [self.tap, self.head]

    def findings(self) -> dict[str, Any]:
        return label_hint_findings(self.guided_layer)


class _HintAtGuidedLayer(Supervised):
    """Adds to a stage a feature objective at the pairs of layers that `hint` names."""

    tap: Tap
    hints: Answers
    objective: Objective | None = None  # none where a class's own side terms do without

    def __init__(self, inputs: StageInputs):
        super().__init__(inputs)
        answers = self.teacher_answers()
        self.pairs = layer_pairs(inputs)
        hints = answers([pair.teacher_layer for pair in self.pairs], False)
        tap = Tap(self.net, [pair.student_layer for pair in self.pairs], inputs.input_shape)
        outside_tree(self, tap=tap, hints=hints)
        outside_tree(self, objective=objective_of(self, "hint_loss", "side_terms", self.pairs))

    def side_terms(self, features: tuple[Tensor, ...], batch: Batch) -> dict[str, Tensor]:
        assert self.objective is not None
        return self.objective(Outputs(None, features), self.hints(batch), batch)

    def weights(self) -> dict[str, float]:
        return super().weights() | epoch_weights(self, self.objective)

    def compiled_modules(self) -> list[nn.Module]:
        return [self.tap, *([self.objective] if self.objective else [])]

    def findings(self) -> dict[str, Any]:
        return hint_findings(self)


class _OnLabels:
    """At the end: labels."""

    def terms(self: Any, batch: Batch) -> dict[str, Tensor]:
        logits, features = self.tap(batch.x)
        return {"hard": hard_cross_entropy(logits, batch.y)} | self.side_terms(features, batch)


class _OnAnswers:
    """At the end: KD."""

    def terms(self: Any, batch: Batch) -> dict[str, Tensor]:
        logits, features = self.tap(batch.x)
        return self.kd_loss(Outputs(logits), self.answers(batch), batch) | self.side_terms(features, batch)


class LabelBackprop(_OnLabels, _LabelAtGuidedLayer):
    """Labels at the end and at the guided layer."""


class HintBackprop(_OnLabels, _HintAtGuidedLayer):
    """Labels at the end, the teacher's features at the guided layers."""


class LabelKD(_OnAnswers, _LabelAtGuidedLayer, KD):
    """KD at the end, labels at the guided layer."""


class HintKD(_OnAnswers, _HintAtGuidedLayer, KD):
    """KD at the end, the teacher's features at the guided layers."""
