"""Figures of predictions and of layers' outputs: pure functions on tensors. Nothing here knows of Lightning or W&B."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

NOTHING = 0.01  # an R2 below which nothing is predicted
BINS = 15  # of the calibration error and the reliability diagram
MATRIX = 100  # classes; of more a matrix of who is taken for whom grows faster than anyone can read it
PAIRS = 50  # of a class and another one that it is taken for: the most frequent


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> dict[str, list[float]]:
    """Mean confidence, accuracy and count by bin of confidence; an empty bin has zeros.

    Probabilities (N, K), labels (N,). Confidence is the largest probability; bin i holds (i / bins, (i + 1) / bins].
    What a diverged network says (NaN) has confidence 0.
    """
    confidence, answers = probabilities.max(1)
    confidence = confidence.double().nan_to_num()
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
    squares = probabilities.square().sum(1, dtype=torch.float64)
    right = probabilities.gather(1, labels[:, None])[:, 0].double()
    return (squares - 2 * right + 1).mean().item()  # with no one-hot (N, K), which is large where classes are many


def confusion(answers: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts (K, K): a row for each true class, a column for each answer."""
    return torch.bincount(labels * classes + answers, minlength=classes**2).view(classes, classes)


def confused(answers: Tensor, labels: Tensor) -> list[tuple[int, int, int]]:
    """(true class, answer, count) of the PAIRS most frequent wrong answers, in an order that is always the same."""
    wrong = answers != labels
    pairs, counts = torch.stack([labels[wrong], answers[wrong]], 1).unique(dim=0, return_counts=True)
    first = counts.argsort(descending=True, stable=True)[:PAIRS]
    return [(*pair, count) for pair, count in zip(pairs[first].tolist(), counts[first].tolist(), strict=True)]


def per_class(answers: Tensor, labels: Tensor, classes: int) -> list[float | None]:
    """Accuracy on each true class; None for a class without samples."""
    totals, right = (of.bincount(minlength=classes).tolist() for of in (labels, labels[answers == labels]))
    return [of_class / total if total else None for of_class, total in zip(right, totals, strict=True)]


def of_predictions(logits: Tensor, labels: Tensor) -> tuple[dict[str, float], dict[str, Any]]:
    """Calibration of (N, K) logits, and what only tables and plots can show: by class, confusion, reliability.

    Nothing of it grows with the square of the number of classes.
    """
    logits, labels, classes = logits.float().cpu(), labels.cpu(), logits.shape[1]
    probabilities, answers = logits.softmax(1), logits.argmax(1)
    details: dict[str, Any] = {"per_class": per_class(answers, labels, classes), "confused": confused(answers, labels)}
    if classes <= MATRIX:
        details["confusion"] = confusion(answers, labels, classes).tolist()
    details["reliability"] = bins = reliability(probabilities, labels)
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
