"""Training on labels: the teacher, the student by plain backprop, and the guided half alone (label hint)."""

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from fitnets.components import build
from fitnets.data.batch import Batch
from fitnets.losses.logits import hard_cross_entropy
from fitnets.models.layers import Cut, guided_parameters
from fitnets.stages.base import Stage, StageInputs, drawn_with, publish
from fitnets.stages.pairs import guided_layer
from fitnets.stages.teacher import outside_tree


def mean_of_all() -> MeanMetric:
    """A mean that is not finite where a value is not: torchmetrics' own leaves those out."""
    return MeanMetric(nan_strategy="disable")


def label_metrics(num_classes: int, prefix: str) -> MetricCollection:
    """Accuracy over all samples and mean negative log-likelihood (nats)."""
    metrics = {"accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False), "nll": mean_of_all()}
    return MetricCollection(metrics, prefix=prefix, compute_groups=False)  # type: ignore[arg-type]


def update_label_metrics(metrics: MetricCollection, logits: Tensor, y: Tensor) -> None:
    metrics["accuracy"].update(logits, y)
    metrics["nll"].update(F.cross_entropy(logits, y, reduction="none"))


def publish_and_reset(stage: Stage, metrics: MetricCollection) -> None:
    """The figures of an epoch's validation; the next one starts anew."""
    publish(stage, metrics.compute())
    metrics.reset()


class Supervised(Stage):
    """Cross-entropy on labels, of the teacher or of the student."""

    def __init__(self, inputs: StageInputs):
        super().__init__(inputs)
        self.val_metrics = label_metrics(inputs.data.num_classes, "val/")
        self.test_metrics = label_metrics(inputs.data.num_classes, "test/")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": hard_cross_entropy(self(batch.x), batch.y)}

    def sample_losses(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self(batch.x), batch.y, reduction="none")

    def validation_step(self, batch: Batch, _batch_number: int) -> None:
        update_label_metrics(self.val_metrics, self(batch.x), batch.y)

    def on_validation_epoch_end(self) -> None:
        publish_and_reset(self, self.val_metrics)

    def test_step(self, batch: Batch, _batch_number: int) -> None:
        logits = self(batch.x)
        update_label_metrics(self.test_metrics, logits, batch.y)
        self.answered.append((logits, batch.y))
        self.log_dict(self.test_metrics, batch_size=len(batch.y))


class LabelHint(Supervised):
    """The label hint of the paper's section 3.1: the guided half learns labels through a classifier of its own.

    The classifier is thrown away; what lies above the guided layer stays as it was.
    """

    guided: Cut
    head: nn.Module

    def __init__(self, inputs: StageInputs):
        super().__init__(inputs)
        layer, head = label_head(inputs)
        self.trained = guided_parameters(self.net, [layer], inputs.input_shape)
        self.projector.append(head)
        outside_tree(self, guided=Cut(self.net, layer), head=head)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.guided(x))

    def compiled_modules(self) -> list[nn.Module]:
        return [self.guided, self.head]

    def findings(self) -> dict[str, Any]:
        return label_hint_findings(self.guided.layer)


def label_head(inputs: StageInputs) -> tuple[str, nn.Module]:
    """The guided layer's name, and a linear classifier on its flattened output (the paper does not say which)."""
    layer, shape = guided_layer(inputs)
    with drawn_with(inputs.seed, "head"):
        head = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), inputs.data.num_classes))
        build(inputs.spec["init"]["regressor"], head)
    return layer, head


def label_hint_findings(layer: str) -> dict[str, Any]:
    return {"hint": {"guided_layer": layer}}
