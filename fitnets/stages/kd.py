"""Stage 2: the whole student learns labels and the teacher's softened answers, lambda annealed (paper eq. 2)."""

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import KLDivergence, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from fitnets.data.batch import Batch
from fitnets.losses.objective import Objective, Outputs
from fitnets.stages.base import Answers, StageInputs, epoch_weights, objective_of, publish
from fitnets.stages.supervised import Supervised, publish_and_reset, update_label_metrics
from fitnets.stages.teacher import FrozenTeacher, outside_tree


class KD(Supervised):
    """Trains every layer of the student, guided ones too, with fresh optimizer state, by the objective `kd_loss`.

    Beside accuracy it follows how well the student imitates: top-1 agreement and KL(teacher || student) at
    temperature 1, in nats. For the test part the teacher itself answers.
    """

    teacher: FrozenTeacher
    answers: Answers
    kd_loss: Objective | None = None  # none where a class's own terms do without

    def __init__(self, inputs: StageInputs):
        super().__init__(inputs)
        answers = self.teacher_answers()
        outside_tree(self, answers=answers((), True), kd_loss=objective_of(self, "kd_loss", "terms"))
        self.val_match = match_metrics(inputs.data.num_classes, "match/")
        self.test_match = match_metrics(inputs.data.num_classes, "test/match_")

    def weights(self) -> dict[str, float]:
        return epoch_weights(self, self.kd_loss)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        assert self.kd_loss is not None
        return self.kd_loss(Outputs(self(batch.x)), self.answers(batch), batch)

    def sample_losses(self, batch: Batch) -> Tensor:
        """(B,) KL(teacher || student), both softened, nats; it needs no label.

        That is the soft term less the teacher's own entropy, which no student can lower.
        """
        temperature = (self.kd_loss.temperature if self.kd_loss else None) or 1.0
        answers = F.log_softmax(logits_of(self.answers(batch)) / temperature, 1)
        predicted = F.log_softmax(self(batch.x) / temperature, 1)
        return F.kl_div(predicted, answers, log_target=True, reduction="none").sum(1)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        if self.kd_loss is None:
            return
        if self.kd_loss.temperature is not None:
            publish(self, {"distill/temperature": self.kd_loss.temperature})
        scheduled = self.kd_loss.scheduled()
        figures = {f"distill/weight_{name}": self.weights()[name] for name in scheduled}
        if "distill/weight_soft" in figures:  # the paper's name for it
            figures["distill/lambda"] = figures.pop("distill/weight_soft")
        publish(self, figures)

    def validation_step(self, batch: Batch, _batch_number: int) -> None:
        logits = self(batch.x)
        update_label_metrics(self.val_metrics, logits, batch.y)
        update_match_metrics(self.val_match, logits, logits_of(self.answers(batch)))

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        publish_and_reset(self, self.val_match)

    def test_step(self, batch: Batch, _batch_number: int) -> None:
        logits = self(batch.x)
        update_label_metrics(self.test_metrics, logits, batch.y)
        teacher_logits = self.teacher(batch.x)
        update_match_metrics(self.test_match, logits, teacher_logits)
        self.answered.append((logits, batch.y, teacher_logits))
        self.log_dict(self.test_metrics)
        self.log_dict(self.test_match)


def logits_of(answers: Outputs) -> Tensor:
    assert answers.logits is not None
    return answers.logits


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
