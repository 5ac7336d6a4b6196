"""Training on labels: the teacher, and the student by plain backprop."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from fitnets.data.module import Batch
from fitnets.losses import hard_cross_entropy
from fitnets.optim import make_optimizer
from fitnets.stages.means import Means


def label_metrics(num_classes: int, prefix: str) -> MetricCollection:
    """Accuracy over all samples and mean negative log-likelihood (nats)."""
    metrics = {"accuracy": MulticlassAccuracy(num_classes, average="micro"), "nll": MeanMetric()}
    return MetricCollection(metrics, prefix=prefix, compute_groups=False)  # type: ignore[arg-type]


def update_label_metrics(metrics: MetricCollection, logits: Tensor, y: Tensor) -> None:
    metrics["accuracy"].update(logits, y)
    metrics["nll"].update(nn.functional.cross_entropy(logits, y, reduction="none"))


class ClassifierModule(LightningModule):
    """Cross-entropy on labels. `role` says whose network it is: "teacher" or "student"."""

    best_by = (("val/accuracy", "max"), ("val/nll", "min"))  # the second decides ties

    def __init__(self, net: nn.Module, role: str, num_classes: int, recipe: Mapping[str, Any], updates: int):
        super().__init__()
        self.net = net
        self.nets = {role: net}  # what is kept, by file name
        self.recipe = recipe
        self.updates = updates
        self.means = Means()
        self.val_metrics = label_metrics(num_classes, "val/")
        self.test_metrics = label_metrics(num_classes, "test/")

    def training_step(self, batch: Batch, _batch_number: int) -> Tensor:
        loss = hard_cross_entropy(self.net(batch.x), batch.y)
        self.means.add(loss=loss)
        return loss

    def on_train_epoch_end(self) -> None:
        self.log_dict({f"train/{name}": value for name, value in self.means.take().items()})

    def validation_step(self, batch: Batch, _batch_number: int) -> None:
        update_label_metrics(self.val_metrics, self.net(batch.x), batch.y)
        self.log_dict(self.val_metrics, batch_size=len(batch.y))

    def test_step(self, batch: Batch, _batch_number: int) -> None:
        update_label_metrics(self.test_metrics, self.net(batch.x), batch.y)
        self.log_dict(self.test_metrics, batch_size=len(batch.y))

    def configure_optimizers(self) -> Any:
        return make_optimizer(self.net.parameters(), self.recipe, self.updates)

    def findings(self) -> dict[str, Any]:
        """What only this stage knows and result.json should hold."""
        return {}
