"""The losses and schedules of the paper, as pure functions on tensors. Nothing here knows of Lightning or Hydra."""

import math

import torch.nn.functional as F
from torch import Tensor

UNLABELLED = -1  # a label that the hard loss skips


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


def hard_cross_entropy(student_logits: Tensor, labels: Tensor, labelled: Tensor | None = None) -> Tensor:
    """H(y, P_S) at temperature 1, mean over the labelled samples of the batch; 0 if it has none.

    Logits (B, K), labels (B,) with UNLABELLED where the label may not be used. `labelled` is their number where
    this is a part of the batch: the mean over the parts.
    """
    total = F.cross_entropy(student_logits, labels, ignore_index=UNLABELLED, reduction="sum")
    count = (labels != UNLABELLED).sum() if labelled is None else labelled
    return total / count.clamp(min=1e-9)  # 0 where there is none


def kd_loss(hard: Tensor, soft: Tensor, lambda_: float) -> Tensor:
    """Paper eq. 2: the hard term has weight 1, the soft term lambda, which is annealed (see linear, saturating)."""
    return hard + lambda_ * soft


def hinton_loss(hard: Tensor, soft: Tensor, temperature: float, alpha: float) -> Tensor:
    """Hinton et al. 2015, section 2: a convex mix with weight alpha on the soft term, scaled by tau^2."""
    return (1 - alpha) * hard + alpha * temperature**2 * soft


def linear(epoch: int, epochs: int, start: float, end: float, fraction: float = 1.0) -> float:
    """Lambda in an epoch (from 0): start -> end, linear over a fraction of the KD stage (paper section 2.3).

    It stands at `start` in the first epoch, reaches `end` in the last epoch of that fraction and stays there.
    Equal ends are a constant lambda, a larger `end` a rising one.
    """
    last = max(1, round(fraction * epochs) - 1)
    return start + (end - start) * min(1.0, epoch / last)


def saturating(
    epoch: int, epochs: int, start: float, end: float, begin: float, saturate: float, of_epochs: float | None = None
) -> float:
    """Lambda as the original code anneals it (TeacherDecayOverEpoch): from `begin`, at `end` from `saturate` on.

    step = (start - end) / (saturate - begin + 1), and lambda(n) = start - step (n - begin + 1) for begin <= n <
    saturate, never below 0. n counts monitor calls, one of which comes before the first epoch, so the epoch numbered
    0 has n = 1. `begin` and `saturate` are epochs of a stage of `of_epochs`; a shorter stage scales them along.
    """
    scale = epochs / of_epochs if of_epochs else 1.0
    n, step = (epoch + 1) / scale, (start - end) / (saturate - begin + 1)
    if n < begin:
        return start
    return max(0.0, start - step * (n - begin + 1)) if n < saturate else max(0.0, end)


def hint_loss(predicted: Tensor, hint: Tensor, reduction: str = "example") -> Tensor:
    """Squared distance of the regressor's output and the hint, each (B, C, H, W) or (B, D). Paper eq. 3.

    `reduction` is "example": half the squared norm per example, mean over the batch (eq. 3); "mean": mean over all
    elements (torch's MSELoss); "code": the original code's, summed over image rows only, halved, then the mean.
    For 7x7x192 maps "example" is 4,704 times and "code" 3.5 times "mean".
    """
    if reduction == "mean":
        return F.mse_loss(predicted, hint)
    summed_over = {"example": hint[0].numel(), "code": hint.shape[2] if hint.ndim == 4 else hint.shape[1]}
    return F.mse_loss(predicted, hint) * summed_over[reduction] / 2


def unexplained(predicted: Tensor, hint: Tensor, mean: Tensor) -> Tensor:
    """(B,) 1 - R2 of each sample: squared error over the hint's squared distance from the mean hint.

    The error alone would rank samples by the size of their hints, and those are largest where the teacher is surest.
    """
    error, spread = (predicted - hint).square(), (hint - mean).square()
    return error.flatten(1).sum(1) / spread.flatten(1).sum(1).clamp(min=1e-12)


def cosine(step: int, steps: int) -> float:
    """Factor on the learning rate: 1 at the first update, towards 0 after the last."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))
