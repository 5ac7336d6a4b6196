"""What is timed: the framework's own trainings on one config, and the same work written by hand without it."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning.profilers import SimpleProfiler
from rich.console import Console
from torch import Tensor

from fitnets.assemble import make_data, make_stage
from fitnets.commands import composed
from fitnets.data.images import Images
from fitnets.losses.features import hint_loss
from fitnets.losses.logits import hard_cross_entropy, soft_cross_entropy
from fitnets.losses.schedules import linear
from fitnets.plan import plan
from fitnets.store import Run, ensure, folder_of
from fitnets.training.engine import train
from fitnets.training.memory import keep_freed_memory
from fitnets.training.progress import StageProgress
from turns import Steps

NOISE = ["dataset._target_=trainings.noise", "dataset.name=noise", "~dataset.test_fraction", "augment=flip"]
BATCH = 128
TESTED = 128  # images


def noise(split_seed: int, train: int, size: int = 32) -> Images:
    """Random images: `train` to train on (with the digits' val_fraction), and a batch to test on."""
    generator = torch.Generator().manual_seed(split_seed)
    count = round(train / (1 - 0.1875))

    def images(n: int) -> Tensor:
        return torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=generator)

    return Images(
        images(count), torch.arange(count) % 10, images(TESTED), torch.arange(TESTED) % 10, tuple("0123456789")
    )


class Timed(StageProgress):
    """The progress display that users have; and it times the training from within."""

    def __init__(self, steps: Steps):
        super().__init__(Console(file=open(os.devnull, "w")), "timed")  # noqa: SIM115
        self.steps = steps

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.steps.next(new_epoch=batch_idx == 0)


class Waiting(Timed):
    """Also how long each step waits for data, by Lightning's own profiler, which costs steps of milliseconds 1 %."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            trainer.profiler = SimpleProfiler()
            self.steps.waits = trainer.profiler.recorded_durations["[_TrainingEpochLoop].train_dataloader_next"]


class Bench:
    """One config: its untrained teacher, its runs by stage, and a folder where they may be trained again and again."""

    def __init__(self, folder: Path, overrides: Sequence[str], epochs: int):
        shared = ["recipe=modern", "trainer=cpu", "seeds=[0]", f"runs_dir={folder}", "epochs.teacher=1", *overrides]
        whole = [f"epochs.hint={epochs - 1}", "epochs.kd=1"]  # backprop and KD alone have hint + kd epochs
        half = [f"epochs.hint={epochs}", "epochs.kd=1"]
        self.folder = folder
        self.config = composed([*shared, *whole, "stage=kd"])
        self.runs: dict[str, Run] = {}
        for stage, sizes in {"backprop": whole, "hint": half, "kd": whole}.items():
            self.runs[stage] = plan(composed([*shared, *sizes, f"stage={stage}"]))[-1]
        self.teacher = self.runs["kd"].parents["teacher"]
        self.parents = {stage: self.folders(run.needed) for stage, run in self.runs.items()}
        # its weights are fresh: how well it answers changes no time
        self.make(self.teacher, replace(self.teacher, spec={**self.teacher.spec, "epochs": 0}))
        if score := self.runs["kd"].parents.get("score"):
            self.make(score, score)

    def make(self, run: Run, trained_as: Run) -> None:
        """A run's folder, if there is none yet."""
        trainer = composed(["trainer=cpu"])["trainer"]
        ensure(run, self.folder, lambda _, into, parents: train(trained_as, into, parents, trainer, []))

    def folders(self, runs: Mapping[str, Run]) -> dict[str, Path]:
        return {role: folder_of(run, self.folder) for role, run in runs.items()}

    def timed(self, stage: str, steps: Steps, how: type[Timed] = Timed) -> None:
        """The stage, as users run it."""
        run = self.runs[stage]
        folder = folder_of(run, self.folder)
        shutil.rmtree(folder, ignore_errors=True)
        train(run, folder, self.parents[stage], self.config["trainer"], [how(steps)])

    def built(self, stage: str) -> tuple[Any, Any]:
        """The stage's data and the stage itself, for a loop of our own."""
        run, parents, cpu = self.runs[stage], self.parents[stage], torch.device("cpu")
        data = make_data(run, parents)
        data.move_to(cpu)
        return data, make_stage(run, data, parents, cpu)


# ------------------------------------------------------------------------------- hand-written loops


def guided_alone(bench: Bench, epochs: int, steps: Steps) -> None:
    """Forward and backward pass of the guided half and the regressor on one batch, nothing else."""
    torch.set_flush_denormal(True)
    keep_freed_memory()
    data, stage = bench.built("hint")
    batch = next(iter(data.train_dataloader()))
    (target,) = stage.hints(batch).features
    stage.train()
    for step in range(epochs * data.batches_per_epoch):
        steps.next(new_epoch=step % data.batches_per_epoch == 0)
        stage.zero_grad()
        (predicted,) = stage.objective.body.predicted(stage.features(batch.x).features)
        hint_loss(predicted, target, "example").backward()


def kd_loop(bench: Bench, epochs: int, keeping: bool, steps: Steps) -> None:
    """KD as a person would write it by hand: same data, cache, memory format, figures.

    `keeping` freed memory for the next update is what the framework does and few loops do.
    """
    torch.set_flush_denormal(True)
    if keeping:
        keep_freed_memory()
    data, stage = bench.built("kd")
    student, answers, tau = stage.net, stage.answers, stage.kd_loss.temperature
    configured = stage.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    batches, validation = data.train_dataloader(), data.val_dataloader()
    for epoch in range(epochs):
        student.train()
        weight, total = linear(epoch, epochs, start=4.0, end=1.0), torch.zeros(())
        for number, batch in enumerate(batches):
            steps.next(new_epoch=number == 0)
            logits = student(batch.x)
            soft = soft_cross_entropy(logits, answers(batch).logits, tau)
            loss = hard_cross_entropy(logits, batch.y) + weight * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        student.eval()
        sums = torch.zeros(4)
        with torch.no_grad():
            for batch in validation:
                sums += figures_of(student(batch.x), answers(batch).logits, batch.y)
        _ = [float(total), *sums.tolist()]


def figures_of(logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Sums over a batch: right answers, negative log-likelihood, answers like the teacher's, KL to it; (4,)."""
    log_p, log_q = F.log_softmax(teacher_logits, 1), F.log_softmax(logits, 1)
    best = logits.argmax(1)
    right, alike = (best == labels).sum(), (best == teacher_logits.argmax(1)).sum()
    kl = (log_p.exp() * (log_p - log_q)).sum()
    return torch.stack([right, F.nll_loss(log_q, labels, reduction="sum"), alike, kl])
