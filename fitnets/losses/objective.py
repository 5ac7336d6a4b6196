"""What is minimised between student and teacher: a function or a module, and the weights of its terms. Plain torch.

An objective is called as `objective(student, teacher, batch, **options)` and gives its raw terms by name. A module is
built as `Module(context, **options)`; what it learns or remembers stands in its child modules, which are saved beside
the student and are never part of it. `kd_loss` is given logits, `hint_loss` features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from fitnets.components import builder, resolve

Shape = tuple[int, ...]  # of one sample: (C, H, W) for a map, (D,) for a vector


class ObjectiveError(ValueError):
    """An objective that cannot be used with these networks; the message says why and what to type."""


@dataclass(frozen=True)
class Outputs:
    """What a network gave for a batch: its logits (B, K), and its features at the layers asked for, in their order."""

    logits: Tensor | None = None
    features: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class LayerPair:
    """A teacher's layer, the student's that learns from it, and their shapes for one sample.

    `ending()` gives the non-linearity that the hint layer ends in, its maxout pieces, and how that is known.
    """

    teacher_layer: str
    student_layer: str
    teacher_shape: Shape
    student_shape: Shape
    ending: Callable[[], tuple[str, int, str]] = lambda: ("linear", 2, "not probed")

    def __str__(self) -> str:
        return f"{self.student_layer} -> {self.teacher_layer}"


@dataclass(frozen=True)
class Context:
    """What an objective with parameters of its own is built from.

    `ids` (n,) are the training samples' ids, as in a batch; `labels` (N,) by id, UNLABELLED where the stage may not
    see one. `teacher` is the trained network, for objectives that use its classifier.
    """

    pairs: tuple[LayerPair, ...]
    num_classes: int
    ids: Tensor
    labels: Tensor
    teacher: nn.Module | None = None


class Objective(nn.Module):
    """An objective as a stage uses it: its terms, and their sum with the weights of an epoch.

    `spec` is a YAML of conf/kd_loss or conf/hint_loss: `_target_`, options, and `weights` by term, each a number or a
    schedule (a `_target_` called with the epoch and the epochs). A term without a weight counts once.
    """

    def __init__(self, spec: Mapping[str, Any], context: Context):
        super().__init__()
        options = {key: value for key, value in spec.items() if key not in ("_target_", "weights")}
        self.target = spec["_target_"]
        target = resolve(self.target)
        is_module = isinstance(target, type) and issubclass(target, nn.Module)
        self.body: Any = target(context, **options) if is_module else partial(target, **options)
        given = dict(getattr(self.body, "weights", {})) | dict(spec.get("weights", {}))
        self.factors = {name: builder(w) if isinstance(w, Mapping) else w for name, w in given.items()}
        self.temperature: float | None = spec.get("temperature")

    def forward(self, student: Outputs, teacher: Outputs, batch: Any) -> dict[str, Tensor]:
        terms: Any = self.body(student, teacher, batch)
        if not isinstance(terms, Mapping):
            kind = type(terms).__name__
            raise ValueError(f"{self.target} gives a {kind}: return its terms by name, as {{'match': loss}}")
        if unknown := sorted(self.factors.keys() - terms.keys()):
            raise ValueError(f"weights.{unknown[0]} is no term of this loss; type one of: {', '.join(terms)}")
        return dict(terms)

    def weights(self, epoch: int, epochs: int) -> dict[str, float]:
        """The factors on the terms in an epoch, as far as they are not 1."""
        return {name: w(epoch, epochs) if callable(w) else w for name, w in self.factors.items()}

    def scheduled(self) -> list[str]:
        """The terms whose weight changes over the epochs."""
        return [name for name, weight in self.factors.items() if callable(weight)]

    def state(self) -> dict[str, nn.Module]:
        """What the objective has learned or remembers, by name: saved beside the student."""
        if not isinstance(self.body, nn.Module):
            return {}
        if any("." not in name for name in self.body.state_dict()):  # it has tensors of its own
            return {"objective": self.body}
        return {
            name: child for name, child in self.body.named_children() if child.state_dict() or not list(child.buffers())
        }

    def description(self) -> dict[str, Any]:
        """What result.json should say of it."""
        return self.body.description() if hasattr(self.body, "description") else {}


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The terms with their factors, summed in their order; a factor of 1 costs nothing."""
    total: Any = 0
    for name, term in terms.items():
        weight = weights.get(name, 1.0)
        total = total + (term if weight == 1.0 else weight * term)
    return total
