"""Figures of predictions and of layers' outputs: pure functions on tensors. Nothing here knows of Lightning or W&B."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NOTHING = 0.01  # an R2 below which nothing is predicted
BINS = 15  # of the calibration error and the reliability diagram


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> dict[str, list[float]]:
    """Mean confidence, accuracy and count by bin of confidence; an empty bin has zeros.

    Probabilities (N, K), labels (N,). Confidence is the largest probability; bin i holds (i / bins, (i + 1) / bins].
    What a diverged network says (NaN) has confidence 0.
    """
    confidence, answers = probabilities.double().nan_to_num().max(1)
    bin_of = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    count = torch.bincount(bin_of, minlength=bins)

    def mean(values: Tensor) -> list[float]:
        return (torch.bincount(bin_of, values.double(), bins) / count.clamp(min=1)).tolist()

    return {"confidence": mean(confidence), "accuracy": mean(answers == labels), "count": count.tolist()}


def ece(bins: dict[str, list[float]]) -> float:
    """Expected calibration error, from 0 to 1, of the bins that `reliability` gives (Guo et al. 2017)."""
    parts = zip(bins["count"], bins["confidence"], bins["accuracy"], strict=True)
    return sum(count * abs(accuracy - confidence) for count, confidence, accuracy in parts) / sum(bins["count"])


def brier(probabilities: Tensor, labels: Tensor) -> float:
    """Mean squared distance of (N, K) probabilities and the one-hot labels (N,), from 0 to 2; NaN of NaN."""
    truth = F.one_hot(labels, probabilities.shape[1])
    return (probabilities.double() - truth).square().sum(1).mean().item()


def confusion(answers: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts (K, K): a row for each true class, a column for each answer."""
    return torch.bincount(labels * classes + answers, minlength=classes**2).view(classes, classes)


def per_class(counts: Tensor) -> list[float | None]:
    """Accuracy on each true class of a confusion matrix; None for a class without samples."""
    totals = counts.sum(1).tolist()
    return [right / total if total else None for right, total in zip(counts.diag().tolist(), totals, strict=True)]


def of_predictions(logits: Tensor, labels: Tensor) -> tuple[dict[str, float], dict[str, Any]]:
    """Calibration of (N, K) logits, and what only tables and plots can show: by class, confusion, reliability."""
    logits, labels = logits.float().cpu(), labels.cpu()
    probabilities = logits.softmax(1)
    bins, counts = reliability(probabilities, labels), confusion(logits.argmax(1), labels, logits.shape[1])
    details = {"per_class": per_class(counts), "confusion": counts.tolist(), "reliability": bins}
    known = [accuracy for accuracy in details["per_class"] if accuracy is not None]
    balanced = sum(known) / len(known)  # the mean over classes, however large each is
    return {"balanced_accuracy": balanced, "ece": ece(bins), "brier": brier(probabilities, labels)}, details


def cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA of two layers' outputs for the same n >= 4 images, (n, ...) each: 1 for equal up to turning and scale.

    With the unbiased estimator (Nguyen et al. 2021, eq. 3), which is about 0 for unrelated layers however wide they
    are, and can be a little below it. 0 where an output is the same for all images.
    """
    grams = []
    for output in (x, y):
        flat = output.flatten(1).double()
        flat = flat - flat.mean(0)
        grams.append((flat @ flat.T).fill_diagonal_(0.0))
    scale = _hsic(grams[0], grams[0]) * _hsic(grams[1], grams[1])
    return _hsic(grams[0], grams[1]) / scale**0.5 if scale > 0 else 0.0


def _hsic(k: Tensor, l: Tensor) -> float:  # noqa: E741
    n = len(k)
    total = (k * l).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ l.sum(0))
    return (total / (n * (n - 3))).item()


def shares(gradients: dict[str, Tensor]) -> dict[str, float]:
    """Each gradient's part of the sum of their norms; zeros where all vanish."""
    norms = {name: gradient.nan_to_num().norm().item() for name, gradient in gradients.items()}
    total = sum(norms.values())
    return {name: norm / total if total else 0.0 for name, norm in norms.items()}


def learned_nothing(validation: Mapping[str, float], of_data: Mapping[str, Any]) -> str | None:
    """Why a trained stage is no better than knowing nothing; None where it is.

    A regressor's R2 is 0 where it gives the hint's mean; a classifier is at chance within two standard errors of
    always naming the largest class.
    """
    r2, accuracy = validation.get("r2"), validation.get("accuracy")
    if r2 is not None and not r2 > NOTHING:
        return f"R2 {r2:.3f} on validation: the hint's mean predicts as well"
    share, count = of_data["largest_class"], of_data["validation"]
    if accuracy is not None and not accuracy > share + 2 * math.sqrt(share * (1 - share) / max(1, count)):
        return f"validation accuracy {accuracy:.2%} is at chance: the largest class has {share:.2%}"
    return None
