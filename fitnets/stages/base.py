"""What all stages share: what the engine hands them, how an update is made, what is kept and measured."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from fitnets.components import build
from fitnets.data.batch import Batch
from fitnets.distributed import averaged
from fitnets.ending import Diverged
from fitnets.losses.objective import Context, LayerPair, Objective, Outputs, weighted_sum
from fitnets.models.layers import LayerError
from fitnets.seeds import derive
from fitnets.stages.optimizers import make_optimizer, parameter_factors
from fitnets.stages.teacher import FrozenTeacher, outside_tree

NOT_OF_AN_OBJECTIVE = ("student", "teacher", "preprocess", "learned_epoch")  # names of files that others write
TOGETHER = 50  # steps between two looks at the losses on a GPU
Answers = Callable[[Batch], Outputs]  # what the teacher gives for a batch


@dataclass(frozen=True)
class GuidedHalf:
    """The half that a step before has guided, by the factor on its learning rate; at 0 nothing of it moves."""

    scale: float
    parameters: Sequence[nn.Parameter]
    frozen: Sequence[nn.Module]  # at 0: they run in eval mode, so that statistics stay too


@dataclass(frozen=True)
class StageInputs:
    """What the engine hands a stage.

    `spec` is what decided the run; `net` what is trained, the student with the weights of the step before it;
    `answers(layers, logits)` gives what the trained `teacher` answers at these layers and, if asked, at its end.
    `guided` is the half that a step before has guided, where it learns otherwise than the rest. `folders` are those of
    the finished runs that the stage needs, by role.
    """

    spec: Mapping[str, Any]
    role: str  # teacher | student: whose network it is
    data: Any  # a fitnets.data.module.DataModule, set up
    net: nn.Module
    seed: int
    epochs: int
    recipe: Mapping[str, Any]
    teacher: nn.Module | None = None
    answers: Callable[[Sequence[str], bool], Answers] | None = None
    guided: GuidedHalf | None = None
    folders: Mapping[str, Path] = field(default_factory=dict)

    @property
    def options(self) -> Mapping[str, Any]:
        """What the stage's YAML says under `options`; ValueError for one that it does not have."""
        return Options(self.spec.get("options", {}))

    @property
    def updates(self) -> int:
        return self.data.updates

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.data.input_shape


def publish(module: LightningModule, figures: Mapping[str, Tensor | float]) -> None:
    """Figures of an epoch, put where callbacks find them: `trainer.callback_metrics`.

    Lightning's own `log` does that too, and averages, synchronises and checks; for final figures that cost 2 % of
    an epoch on digits.
    """
    module.trainer.callback_metrics.update(figures)  # type: ignore[arg-type]


class Averages:
    """Averages of training figures over an epoch, summed on the device: nothing here waits for it."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, **figures: Tensor) -> None:
        for name, value in figures.items():
            before = self.sums.get(name)
            self.sums[name] = value.detach().clone() if before is None else before.add_(value.detach())
        self.count += 1

    def take(self) -> dict[str, Tensor]:
        """The averages since the last call, over all ranks that train together."""
        averages = {name: averaged(total / max(1, self.count)) for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return averages

    def state_dict(self) -> dict:
        return {"sums": self.sums, "count": self.count}

    def load_state_dict(self, state: dict) -> None:
        self.sums, self.count = state["sums"], state["count"]


class Losses:
    """Stops a training whose loss is not finite: at once on a CPU, before the step is made.

    A look makes a processor wait for its GPU, so there it is one in TOGETHER steps, and one before weights are kept.
    """

    def __init__(self) -> None:
        self.unseen: list[tuple[int, float, dict[str, Tensor]]] = []  # step, learning rate, the total and its terms

    def add(self, step: int, lr: float, losses: dict[str, Tensor]) -> None:
        self.unseen.append((step, lr, losses))
        if len(self.unseen) == TOGETHER or not next(iter(losses.values())).is_cuda:
            self.look()

    def look(self) -> None:
        """Raises Diverged for the first step whose total is not finite."""
        unseen, self.unseen = self.unseen, []
        totals = [next(iter(losses.values())) for _, _, losses in unseen]
        if not totals or bool(torch.stack(totals).isfinite().all()):
            return
        step, lr, losses = next(each for each, total in zip(unseen, totals, strict=True) if not total.isfinite())
        terms = [f"{name} is {float(loss):.4g}" for name, loss in losses.items() if not loss.isfinite()]
        raise Diverged(f"diverged at step {step + 1}: {', '.join(terms)}, with learning rate {lr:.4g}")


class Options(dict[str, Any]):
    """The options of a stage; one that its YAML does not have is an error that says which it has."""

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"stage.options has no {key!r}; it has: {', '.join(self) or 'nothing'}")


class Stage(LightningModule):
    """One training: it says what its loss is; an update follows the loss's gradient, and the schedules move by it.

    A stage of one's own gives `terms` (and `weights` where they are not 1), `validation_step` and `best_by`, or starts
    from Supervised, Hint or KD. `nets` is what is kept, by file name; `trained` the parameters of the net that learn;
    `projector` holds layers that learn along and are no part of the net.

    Lightning's automatic optimization does the same behind a dozen hooks that no stage uses: 3 % of a step on digits.
    Where there is something for its strategy or precision to do, several devices or 16 bits, they are asked.
    """

    best_by: ClassVar[tuple[tuple[str, str], ...]] = (("val/accuracy", "max"), ("val/nll", "min"))  # 2nd decides ties
    total = "loss"  # the name of the sum of all terms
    classifies = True  # whether `self(x)` gives logits
    inputs: StageInputs
    teacher: FrozenTeacher | None

    def __init__(self, inputs: StageInputs):
        super().__init__()
        self.automatic_optimization = False
        outside_tree(self, inputs=inputs, teacher=FrozenTeacher(inputs.teacher) if inputs.teacher else None)
        self.net = inputs.net
        self.nets: dict[str, nn.Module] = {inputs.role: self.net}
        half = inputs.guided
        for parameter in half.parameters if half and not half.scale else ():
            parameter.requires_grad_(False)
        self.trained = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        self.projector = nn.ModuleList()
        self.averages = Averages()  # of the epoch's training figures
        self.latest: dict[str, Tensor] = {}  # the total of the latest batch's loss, then its raw terms
        self.losses = Losses()
        self.answered: list[tuple[Tensor, ...]] = []  # logits, labels and the teacher's logits on the test part

    # ------------------------------------------------------------------------------------- the loss

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """The raw terms of a training batch's loss, by name."""
        raise NotImplementedError

    def weights(self) -> dict[str, float]:
        """The factors on the terms in this epoch, as far as they are not 1."""
        return {}

    def sample_losses(self, batch: Batch) -> Tensor:
        """(B,) what self-paced learning ranks by."""
        raise LayerError(f"{type(self).__name__} has no loss of single samples: type another curriculum/score")

    def on_train_start(self) -> None:
        for module in self.inputs.guided.frozen if self.inputs.guided else ():
            module.training = False  # Lightning keeps each module's own mode from here on

    def training_loss(self, batch: Batch) -> Tensor:
        terms = self.terms(batch)
        loss = weighted_sum(terms, self.weights())
        self.latest = {self.total: loss.detach()} | {name: term.detach() for name, term in terms.items()}
        self.averages.add(**terms | {self.total: loss})
        return loss

    def training_step(self, batch: Batch, _batch_number: int) -> Tensor:
        loss = self.training_loss(batch)
        optimizer: Any = self.optimizers()
        self.losses.add(self.global_step, optimizer.param_groups[0]["lr"], self.latest or {self.total: loss.detach()})
        optimizer.zero_grad()
        if self.trainer.world_size == 1 and not torch.is_autocast_enabled(loss.device.type):
            loss.backward()
        else:
            with torch.autocast(loss.device.type, enabled=False):  # a backward pass runs in its forward's types
                self.manual_backward(loss)
        optimizer.step()
        if schedule := self.lr_schedulers():
            schedule.step()  # type: ignore[union-attr]
        return loss.detach()

    def on_train_epoch_end(self) -> None:
        self.losses.look()
        averages, weights = self.averages.take(), self.weights()
        figures: dict[str, Any] = {f"train/{self.total}": averages.pop(self.total)}
        for name, value in averages.items():
            figures |= {f"distill/{name}": value, f"distill/weighted_{name}": weights.get(name, 1.0) * value}
        publish(self, figures)

    def configure_optimizers(self) -> Any:
        half = self.inputs.guided
        slowed = {half.scale: half.parameters} if half and half.scale else {}
        factors = parameter_factors(self.net, self.trained, self.inputs.recipe, slowed)
        return make_optimizer(self.net, factors, self.projector, self.inputs.recipe, self.inputs.updates)

    # ------------------------------------------------------------------------------ kept and measured

    def teacher_answers(self) -> Callable[[Sequence[str], bool], Answers]:
        """What asks the teacher (see StageInputs). Raises ValueError for a stage that is given none."""
        if self.inputs.teacher is None or self.inputs.answers is None:
            raise ValueError(f"{self.typed()} uses a teacher: type needs: {{teacher: teacher}} in the stage's YAML")
        return self.inputs.answers

    def typed(self) -> str:
        """The class as a YAML names it."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def compiled_modules(self) -> list[nn.Module]:
        """What runs at each step, for torch.compile."""
        return [self.net]

    def findings(self) -> dict[str, Any]:
        """What only this stage knows and result.json should hold."""
        return {}

    def hint_maps(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """The hint and what the student predicts of it, for a picture; None where nothing is predicted."""
        return None


# ----------------------------------------------------------------------------------- building a stage


@contextmanager
def drawn_with(seed: int, purpose: str) -> Iterator[None]:
    """Weights made inside depend on (seed, purpose) alone; torch's random state outside is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, purpose))
        yield


def objective_of(stage: Stage, key: str, method: str, pairs: Sequence[LayerPair] = ()) -> Objective | None:
    """The objective that the spec has under `key`; its own layers start as `init.regressor` says, and learn along.

    They are saved, each in a file of its own, never in the student's. None where the class has a `method` of its
    own and `decided_by` does not name the objective; ValueError where `method` is ours and needs it.
    """
    if key not in stage.inputs.spec:
        if getattr(type(stage), method).__module__.startswith("fitnets."):
            raise ValueError(f"{stage.typed()} uses {key}: add it to decided_by in the stage's YAML")
        return None
    inputs, data = stage.inputs, stage.inputs.data
    ids, labels = data.train_index.cpu(), data.visible_labels.cpu()
    context = Context(tuple(pairs), data.num_classes, ids, labels, inputs.teacher)
    with drawn_with(inputs.seed, "regressor"):
        objective = Objective(inputs.spec[key], context)
        build(inputs.spec["init"]["regressor"], objective)
    stage.projector.append(objective)
    for name, module in objective.state().items():
        taken = {*stage.nets, *NOT_OF_AN_OBJECTIVE}
        stage.nets[f"{key}_{name}" if name in taken else name] = module
    return objective


def epoch_weights(stage: Stage, objective: Objective | None) -> dict[str, float]:
    """The factors on the terms of an objective in the stage's epoch."""
    return objective.weights(stage.current_epoch, stage.inputs.epochs) if objective else {}
