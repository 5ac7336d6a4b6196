"""Objectives on features: the paper's hint loss through a regressor, and attention transfer. Plain torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fitnets.losses.objective import Context, LayerPair, ObjectiveError, Outputs
from fitnets.models.regressors import RegressorPlan, plan_regressor


def hint_loss(predicted: Tensor, hint: Tensor, reduction: str = "example") -> Tensor:
    """Squared distance of the regressor's output and the hint, each (B, C, H, W) or (B, D). Paper eq. 3.

    `reduction` is "example": half the squared norm per example, mean over the batch (eq. 3); "mean": mean over all
    elements (torch's MSELoss); "code": the original code's, summed over image rows only, halved, then the mean.
    For 7x7x192 maps "example" is 4,704 times and "code" 3.5 times "mean".
    """
    if reduction == "mean":
        return F.mse_loss(predicted, hint)
    rows = hint.shape[2] if hint.ndim == 4 else hint.shape[1]
    summed_over = {"example": hint[0].numel(), "code": rows}
    return F.mse_loss(predicted, hint) * summed_over[reduction] / 2


def unexplained(predicted: Tensor, hint: Tensor, mean: Tensor) -> Tensor:
    """(B,) 1 - R2 of each sample: squared error over the hint's squared distance from the mean hint.

    The error alone would rank samples by the size of their hints, and those are largest where the teacher is surest.
    """
    error, spread = (predicted - hint).square(), (hint - mean).square()
    return error.flatten(1).sum(1) / spread.flatten(1).sum(1).clamp(min=1e-12)


def joined(features: Sequence[Tensor]) -> Tensor:
    """Features of several layers as one vector a sample, (B, D)."""
    return torch.cat([feature.flatten(1) for feature in features], 1)


class Regression(nn.Module):
    """Paper eq. 3: the guided layer predicts the hint layer through a regressor; summed over the pairs of layers.

    `regressor` says which one (a YAML of conf/regressor); what it ends in is the hint layer's own non-linearity, if
    that is "auto" (section 2.2).
    """

    def __init__(self, context: Context, regressor: Mapping[str, Any], reduction: str):
        super().__init__()
        self.reduction = reduction
        self.pairs = context.pairs
        self.endings = [_ending(pair, regressor["nonlinearity"]) for pair in context.pairs]
        self.plans = [
            _planned(pair, regressor["kind"], ending) for pair, ending in zip(context.pairs, self.endings, strict=True)
        ]
        built = [plan.build() for plan in self.plans]
        self.each = tuple(built)
        self.regressor = built[0] if len(built) == 1 else nn.ModuleList(built)

    def predicted(self, features: Sequence[Tensor]) -> list[Tensor]:
        """What the regressor makes of the guided layers' outputs: as the hints are shaped."""
        return [regressor(feature) for regressor, feature in zip(self.each, features, strict=True)]

    def forward(self, student: Outputs, teacher: Outputs, batch: Any) -> dict[str, Tensor]:
        pairs = zip(self.predicted(student.features), teacher.features, strict=True)
        return {"hint_loss": sum(hint_loss(predicted, hint, self.reduction) for predicted, hint in pairs)}  # type: ignore[dict-item]

    def sample_losses(self, student: Outputs, teacher: Outputs) -> Tensor:
        """(B,) what self-paced learning ranks by: 1 - R2 of each sample, with the mean hint of the batch."""
        pairs = zip(self.predicted(student.features), teacher.features, strict=True)
        return sum(unexplained(predicted, hint, hint.mean(0)) for predicted, hint in pairs)  # type: ignore[return-value]

    def description(self) -> dict[str, Any]:
        nonlinearities = [plan.nonlinearity for plan in self.plans]
        return {
            "regressor": ", ".join(map(str, self.plans)),
            "regressor_nonlinearity": ", ".join(nonlinearities),
            "nonlinearity_because": ", ".join(why for _, _, why in self.endings),
            "regressor_params": sum(p.numel() for p in self.regressor.parameters()),
            "reduction": self.reduction,
        }


def _ending(pair: LayerPair, choice: str) -> tuple[str, int, str]:
    nonlinearity, pieces, why = pair.ending()
    return (nonlinearity, pieces, why) if choice == "auto" else (choice, pieces, "as asked")


def _planned(pair: LayerPair, kind: str, ending: tuple[str, int, str]) -> RegressorPlan:
    try:
        return plan_regressor(pair.student_shape, pair.teacher_shape, kind, ending[0], ending[1])
    except ValueError as error:
        raise ObjectiveError(f"hint {pair}: {error}") from error


class Attention(nn.Module):
    """Attention transfer (Zagoruyko and Komodakis 2017, eq. 2): distance of normalised maps of squared activations.

    A map is the mean over channels of |activation|^power, (B, H * W), scaled to unit length; the loss is the mean
    squared distance, summed over the pairs of layers. Larger maps are averaged down to the smaller ones.
    """

    def __init__(self, context: Context, power: float):
        super().__init__()
        self.power = power
        for pair in context.pairs:
            if len(pair.teacher_shape) != 3 or len(pair.student_shape) != 3:
                raise ObjectiveError(
                    f"hint_loss=attention needs maps (C, H, W), and {pair} are {pair.student_shape} and "
                    f"{pair.teacher_shape}: type hint=middle or other layers"
                )

    def forward(self, student: Outputs, teacher: Outputs, batch: Any) -> dict[str, Tensor]:
        total: Any = 0
        for ours, theirs in zip(student.features, teacher.features, strict=True):
            size = (min(ours.shape[2], theirs.shape[2]), min(ours.shape[3], theirs.shape[3]))
            distance = self._map(ours, size) - self._map(theirs, size)
            total = total + distance.square().mean()
        return {"attention": total}

    def _map(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        if features.shape[2:] != size:
            features = F.adaptive_avg_pool2d(features, size)
        return F.normalize(features.abs().pow(self.power).mean(1).flatten(1))
