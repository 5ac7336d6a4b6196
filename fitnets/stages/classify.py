"""Training on labels: the teacher, and the student by plain backprop."""

from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from fitnets.collective import labelled_in
from fitnets.data.module import Batch
from fitnets.layers import Cut
from fitnets.losses import hard_cross_entropy
from fitnets.optim import make_optimizer
from fitnets.stages.means import note
from fitnets.stages.stage import StageModule


def label_metrics(num_classes: int, prefix: str) -> MetricCollection:
    """Accuracy over all samples and mean negative log-likelihood (nats)."""
    metrics = {"accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False), "nll": MeanMetric()}
    return MetricCollection(metrics, prefix=prefix, compute_groups=False)  # type: ignore[arg-type]


def update_label_metrics(metrics: MetricCollection, logits: Tensor, y: Tensor) -> None:
    metrics["accuracy"].update(logits, y)
    metrics["nll"].update(nn.functional.cross_entropy(logits, y, reduction="none"))


def note_and_reset(module: LightningModule, metrics: MetricCollection) -> None:
    """The figures of an epoch's validation; the next one starts anew."""
    note(module, metrics.compute())
    metrics.reset()


class ClassifierModule(StageModule):
    """Cross-entropy on labels. `role` says whose network it is: "teacher" or "student".

    With `head`, `net` is a student cut at its guided layer and the head a throw-away classifier on top: the label
    hint of the paper's section 3.1, which trains the guided half on labels and leaves the rest as it was.
    """

    best_by = (("val/accuracy", "max"), ("val/nll", "min"))  # the second decides ties

    def __init__(
        self,
        net: nn.Module,
        role: str,
        num_classes: int,
        recipe: Mapping[str, Any],
        updates: int,
        head: nn.Module | None = None,
        trained: Sequence[nn.Parameter] | None = None,
    ):
        super().__init__()
        self.net = net if head is None else nn.Sequential(net, head)
        self.nets = {role: net.net if isinstance(net, Cut) else net}  # what is kept, by file name
        self.head = head
        self.trained = list(net.parameters()) if trained is None else list(trained)
        self.recipe = recipe
        self.updates = updates
        self.val_metrics = label_metrics(num_classes, "val/")
        self.test_metrics = label_metrics(num_classes, "test/")
        self.answered: list[tuple[Tensor, ...]] = []  # logits and labels on the test part

    def training_loss(self, batch: Batch) -> Tensor:
        loss = hard_cross_entropy(self.net(batch.x), batch.y, labelled_in(batch.y))
        self.means.add(loss=loss)
        return loss

    def sample_losses(self, batch: Batch) -> Tensor:
        """(B,) what self-paced learning ranks by."""
        return nn.functional.cross_entropy(self.net(batch.x), batch.y, reduction="none")

    def on_train_epoch_end(self) -> None:
        note(self, {f"train/{name}": value for name, value in self.means.take().items()})

    def validation_step(self, batch: Batch, _batch_number: int) -> None:
        update_label_metrics(self.val_metrics, self.net(batch.x), batch.y)

    def on_validation_epoch_end(self) -> None:
        note_and_reset(self, self.val_metrics)

    def test_step(self, batch: Batch, _batch_number: int) -> None:
        logits = self.net(batch.x)
        update_label_metrics(self.test_metrics, logits, batch.y)
        self.answered.append((logits, batch.y))
        self.log_dict(self.test_metrics, batch_size=len(batch.y))

    def configure_optimizers(self) -> Any:
        return make_optimizer(self.net, self.trained, self.recipe, self.updates, self.head)

    def findings(self) -> dict[str, Any]:
        """What only this stage knows and result.json should hold."""
        return {}
