"""Objectives on logits: the paper's KD, Hinton's, decoupled KD. Plain torch, without Lightning or Hydra."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fitnets.data.batch import UNLABELLED
from fitnets.distributed import averaged, is_distributed
from fitnets.losses.objective import Context, Outputs


def soft_cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, student_temperature: float | None = None
) -> Tensor:
    """H(P_T^tau, P_S^tau), mean over the batch: both answers softened by the same temperature (paper eq. 1, 2).

    Logits (B, K). Cross-entropy, not KL: the gradient is the same, the value differs by the teacher's entropy.
    No tau^2 factor. `student_temperature` 1 is what the original code really does: its division of the student's
    parameters has no effect (KDCost.py).
    """
    of_student = temperature if student_temperature is None else student_temperature
    return F.cross_entropy(student_logits / of_student, (teacher_logits / temperature).softmax(1))


def hard_cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    """H(y, P_S) at temperature 1, mean over the labelled samples of the batch; 0 if it has none.

    Logits (B, K), labels (B,) with UNLABELLED where the label may not be used. Of several processes that share a
    batch each divides by the mean number of labelled samples, as their gradients are averaged.
    """
    total = F.cross_entropy(student_logits, labels, ignore_index=UNLABELLED, reduction="sum")
    count = (labels != UNLABELLED).sum()
    if is_distributed():
        count = averaged(count.float())
    return total / count.clamp(min=1e-9)  # 0 where there is none


def softened(
    student: Outputs, teacher: Outputs, batch: Any, temperature: float, student_temperature: float | None = None
) -> dict[str, Tensor]:
    """The terms of paper eq. 2: labels, and the teacher's softened answers. Its weights are 1 and lambda."""
    assert student.logits is not None and teacher.logits is not None
    soft = soft_cross_entropy(student.logits, teacher.logits, temperature, student_temperature)
    return {"hard": hard_cross_entropy(student.logits, batch.y), "soft": soft}


class Hinton(nn.Module):
    """Hinton et al. 2015, section 2: a convex mix with weight alpha on the soft term, scaled by tau^2."""

    def __init__(self, context: Context, temperature: float, alpha: float):
        super().__init__()
        self.temperature = temperature
        self.weights = {"hard": 1 - alpha, "soft": alpha * temperature**2}

    def forward(self, student: Outputs, teacher: Outputs, batch: Any) -> dict[str, Tensor]:
        return softened(student, teacher, batch, self.temperature)


class Decoupled(nn.Module):
    """Decoupled KD (Zhao et al. 2022, eq. 7): CE + tau^2 (alpha TCKD + beta NCKD), where a label may be used.

    TCKD is the KL of (label, all others), NCKD that among the others; without a label neither is defined, so those
    samples are left out. Both weights grow linearly over the first `warmup` of the epochs, as in the authors' code.
    """

    def __init__(self, context: Context, temperature: float, alpha: float, beta: float, warmup: float):
        super().__init__()
        if context.num_classes < 3:
            raise ValueError("decoupled KD needs at least 3 classes: with 2 there is one other class, and NCKD is 0")
        self.temperature = temperature
        schedule = "fitnets.losses.schedules.warmup"
        self.weights = {
            "target": _schedule(schedule, alpha * temperature**2, warmup),
            "others": _schedule(schedule, beta * temperature**2, warmup),
        }

    def forward(self, student: Outputs, teacher: Outputs, batch: Any) -> dict[str, Tensor]:
        assert student.logits is not None and teacher.logits is not None
        labelled = batch.y != UNLABELLED
        ours, theirs = (out[labelled] / self.temperature for out in (student.logits, teacher.logits))
        target = F.one_hot(batch.y[labelled], ours.shape[1]).bool()
        count = labelled.sum().clamp(min=1)
        return {
            "hard": hard_cross_entropy(student.logits, batch.y),
            "target": _kl(_binary(ours, target), _binary(theirs, target)) / count,
            "others": _kl(_others(ours, target), _others(theirs, target)) / count,
        }


def _schedule(target: str, weight: float, fraction: float) -> dict[str, Any]:
    return {"_target_": target, "weight": weight, "fraction": fraction}


def _binary(logits: Tensor, target: Tensor) -> Tensor:
    """Log probabilities (B, 2) of the label's class and of all others together."""
    log_p = logits.log_softmax(1)
    others = log_p.masked_fill(target, -torch.inf).logsumexp(1)
    return torch.stack([log_p[target], others], 1)


def _others(logits: Tensor, target: Tensor) -> Tensor:
    """Log probabilities (B, K - 1) among the classes that are not the label's."""
    return logits[~target].view(len(logits), logits.shape[1] - 1).log_softmax(1)


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of log probabilities, summed."""
    return F.kl_div(student, teacher, reduction="sum", log_target=True)
