"""Stage 2: the whole student learns labels and the teacher's softened answers, lambda annealed (paper eq. 2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import KLDivergence, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from fitnets.collective import labelled_in
from fitnets.components import builder
from fitnets.data.module import Batch
from fitnets.losses import hard_cross_entropy, hinton_loss, kd_loss, soft_cross_entropy
from fitnets.optim import make_optimizer
from fitnets.stages.answers import Answers
from fitnets.stages.classify import label_metrics, note_and_reset, update_label_metrics
from fitnets.stages.means import note
from fitnets.stages.stage import StageModule
from fitnets.stages.teacher import FrozenTeacher, outside_tree


class KDModule(StageModule):
    """Trains every layer of the student, guided ones too, with fresh optimizer state.

    `scaled` gives factors on the learning rate of some parameters: the guided half's, where asked for (0: frozen).

    `answers(batch)` gives the teacher's logits (B, K) for training and validation samples; `teacher` itself
    answers for the test part. `loss` is {"name": "paper", "lambda_schedule": ...} (eq. 2), the same with "code" (the
    student is not softened, as in the original code) or {"name": "hinton", "alpha": ...} (convex, tau^2). Beside
    accuracy it follows how well the student imitates: top-1 agreement and KL(teacher || student) at temperature 1,
    in nats.
    """

    teacher: FrozenTeacher
    answers: Answers
    best_by = (("val/accuracy", "max"), ("val/nll", "min"))  # the second decides ties

    def __init__(
        self,
        student: nn.Module,
        teacher: FrozenTeacher,
        answers: Answers,
        num_classes: int,
        temperature: float,
        loss: Mapping[str, Any],
        epochs: int,
        recipe: Mapping[str, Any],
        updates: int,
        scaled: Mapping[float, Sequence[nn.Parameter]] | None = None,
    ):
        super().__init__()
        self.student = student
        self.nets = {"student": student}
        outside_tree(self, teacher=teacher, answers=answers)
        self.temperature = temperature
        self.loss = loss
        self.lambda_schedule = builder(loss["lambda_schedule"]) if "lambda_schedule" in loss else None
        self.epochs = epochs
        self.recipe = recipe
        self.updates = updates
        self.scaled = scaled
        self.val_metrics = label_metrics(num_classes, "val/")
        self.test_metrics = label_metrics(num_classes, "test/")
        self.val_match = match_metrics(num_classes, "match/")
        self.test_match = match_metrics(num_classes, "test/match_")
        self.answered: list[tuple[Tensor, ...]] = []  # logits, labels and the teacher's logits on the test part

    @property
    def lambda_(self) -> float | None:
        """The soft term's weight in this epoch; None where the loss has no such weight (Hinton's)."""
        return self.lambda_schedule(self.current_epoch, self.epochs) if self.lambda_schedule else None

    @property
    def weights(self) -> dict[str, float]:
        """The factor on each term of the loss in this epoch."""
        if (weight := self.lambda_) is not None:
            return {"hard": 1.0, "soft": weight}
        return {"hard": 1 - self.loss["alpha"], "soft": self.loss["alpha"] * self.temperature**2}

    def terms(self, logits: Tensor, answer: Tensor, y: Tensor, labelled: Tensor | None = None) -> dict[str, Tensor]:
        """The raw terms of the loss at the logits; `labelled` is for hard_cross_entropy."""
        softened = 1.0 if self.loss["name"] == "code" else None
        soft = soft_cross_entropy(logits, answer, self.temperature, softened)
        return {"hard": hard_cross_entropy(logits, y, labelled), "soft": soft}

    def training_loss(self, batch: Batch) -> Tensor:
        return self.distill(self.student(batch.x), self.answers(batch), batch.y)

    def distill(self, logits: Tensor, answer: Tensor, y: Tensor, **beside: Tensor) -> Tensor:
        """The stage's loss; terms in `beside` are added with weight 1. All terms are followed by name."""
        terms = self.terms(logits, answer, y, labelled_in(y))
        if (weight := self.lambda_) is not None:
            loss = kd_loss(**terms, lambda_=weight)
        else:
            loss = hinton_loss(**terms, temperature=self.temperature, alpha=self.loss["alpha"])
        loss = loss + sum(beside.values())
        self.means.add(loss=loss, **terms, **beside)
        return loss

    def sample_losses(self, batch: Batch) -> Tensor:
        """(B,) what self-paced learning ranks by: KL(teacher || student), both softened, nats; it needs no label.

        That is the soft term less the teacher's own entropy, which no student can lower.
        """
        answers = F.log_softmax(self.answers(batch) / self.temperature, 1)
        predicted = F.log_softmax(self.student(batch.x) / self.temperature, 1)
        return F.kl_div(predicted, answers, log_target=True, reduction="none").sum(1)

    def on_train_epoch_end(self) -> None:
        means = self.means.take()
        note(self, {"train/loss": means.pop("loss"), "distill/temperature": self.temperature})
        note(self, {f"distill/{name}": value for name, value in means.items()})
        note(self, {f"distill/weighted_{name}": self.weights[name] * value for name, value in means.items()})
        if (weight := self.lambda_) is not None:
            note(self, {"distill/lambda": weight})

    def validation_step(self, batch: Batch, _batch_number: int) -> None:
        logits = self.student(batch.x)
        update_label_metrics(self.val_metrics, logits, batch.y)
        update_match_metrics(self.val_match, logits, self.answers(batch))

    def on_validation_epoch_end(self) -> None:
        note_and_reset(self, self.val_metrics)
        note_and_reset(self, self.val_match)

    def test_step(self, batch: Batch, _batch_number: int) -> None:
        logits = self.student(batch.x)
        update_label_metrics(self.test_metrics, logits, batch.y)
        teacher_logits = self.teacher(batch.x)
        update_match_metrics(self.test_match, logits, teacher_logits)
        self.answered.append((logits, batch.y, teacher_logits))
        self.log_dict(self.test_metrics)
        self.log_dict(self.test_match)

    def configure_optimizers(self) -> Any:
        return make_optimizer(self.student, self.student.parameters(), self.recipe, self.updates, scaled=self.scaled)

    def findings(self) -> dict[str, Any]:
        return {}


def match_metrics(num_classes: int, prefix: str) -> MetricCollection:
    """How closely the student follows its teacher: the same top-1 answer, and KL(teacher || student) in nats."""
    metrics = {
        "agreement": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
        "kl": KLDivergence(log_prob=True),
    }
    return MetricCollection(metrics, prefix=prefix, compute_groups=False)  # type: ignore[arg-type]


def update_match_metrics(metrics: MetricCollection, logits: Tensor, teacher_logits: Tensor) -> None:
    metrics["agreement"].update(logits, teacher_logits.argmax(1))
    metrics["kl"].update(F.log_softmax(teacher_logits, 1), F.log_softmax(logits, 1))
