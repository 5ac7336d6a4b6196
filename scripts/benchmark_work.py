"""What is timed: the framework's own trainings on one config, and the same work written by hand without it."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from benchmark_turns import ROOT, Steps
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pytorch_lightning.profilers import SimpleProfiler
from rich.console import Console
from torch import Tensor

from fitnets.assemble import make_data, make_module
from fitnets.data.images import Images
from fitnets.losses import hard_cross_entropy, hint_loss, kd_loss, linear, soft_cross_entropy
from fitnets.memory import keep_freed_memory
from fitnets.report.progress import StageProgress
from fitnets.runs import Run, ensure, folder_of, plan
from fitnets.train import train

NOISE = ["dataset._target_=benchmark_work.noise", "dataset.name=noise", "~dataset.test_fraction", "augment=flip"]
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
        shared = ["recipe=modern", "trainer=cpu", "seeds=[0]", f"runs_dir={folder}", *overrides]
        sizes = [f"epochs.hint={epochs - 1}", "epochs.kd=1", "epochs.teacher=1"]  # KD alone has hint + kd epochs
        self.folder = folder
        self.cfg = composed(*shared, *sizes)
        self.runs = {stage: plan(composed(*shared, *sizes, f"stage={stage}"))[-1] for stage in ("backprop", "kd")}
        hint = [f"epochs.hint={epochs}", "epochs.kd=1", "epochs.teacher=1", "stage=hint"]
        self.runs["hint"] = plan(composed(*shared, *hint))[-1]
        untrained(self.runs["kd"].parents["teacher"], folder)
        if score := self.runs["kd"].parents.get("score"):
            ensure(score, folder, lambda run, where, parents: train(run, where, parents, CPU, []))

    def parents(self, run: Run) -> dict[str, Path]:
        return {role: folder_of(parent, self.folder) for role, parent in run.parents.items()}

    def timed(self, stage: str, steps: Steps, how: type[Timed] = Timed) -> None:
        """The stage, as users run it."""
        run = self.runs[stage]
        folder = folder_of(run, self.folder)
        shutil.rmtree(folder, ignore_errors=True)
        train(run, folder, self.parents(run), self.cfg["trainer"], [how(steps)])

    def parts(self, stage: str) -> tuple[Any, Any]:
        """The stage's data and module, for a loop of our own."""
        run, cpu = self.runs[stage], torch.device("cpu")
        data = make_data(run, self.parents(run))
        data.move_to(cpu)
        return data, make_module(run, data, self.parents(run), cpu)


def untrained(teacher: Run, folder: Path) -> None:
    """The teacher's folder with fresh weights: how well it answers changes no time."""
    spec = {**teacher.spec, "epochs": 0}
    ensure(teacher, folder, lambda _, where, parents: train(replace(teacher, spec=spec), where, parents, CPU, []))


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(overrides)), resolve=True)  # type: ignore[return-value]


CPU: dict[str, Any] = yaml.safe_load((ROOT / "conf" / "trainer" / "cpu.yaml").read_text())


# ------------------------------------------------------------------------------- hand-written loops


def guided_alone(bench: Bench, epochs: int, steps: Steps) -> None:
    """Forward and backward pass of the guided half and the regressor on one batch, nothing else."""
    torch.set_flush_denormal(True)
    keep_freed_memory()
    data, module = bench.parts("hint")
    batch = next(iter(data.train_dataloader()))
    target = module.hints(batch)
    module.train()
    for step in range(epochs * data.batches_per_epoch):
        steps.next(new_epoch=step % data.batches_per_epoch == 0)
        module.zero_grad()
        hint_loss(module.regressor(module.guided(batch.x)), target, "example").backward()


def kd_loop(bench: Bench, epochs: int, keeping: bool, steps: Steps) -> None:
    """KD as a person would write it by hand: same data, cache, memory format, figures.

    `keeping` freed memory for the next update is what the framework does and few loops do.
    """
    torch.set_flush_denormal(True)
    if keeping:
        keep_freed_memory()
    data, module = bench.parts("kd")
    student, answers, tau = module.student, module.answers, module.temperature
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    batches, validation = data.train_dataloader(), data.val_dataloader()
    for epoch in range(epochs):
        student.train()
        weight, total = linear(epoch, epochs, 4.0, 1.0), torch.zeros(())
        for number, batch in enumerate(batches):
            steps.next(new_epoch=number == 0)
            logits = student(batch.x)
            soft = soft_cross_entropy(logits, answers(batch), tau)
            loss = kd_loss(hard_cross_entropy(logits, batch.y), soft, weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        student.eval()
        sums = torch.zeros(4)
        with torch.no_grad():
            for batch in validation:
                logits, teacher = student(batch.x), answers(batch)
                log_p, log_q = F.log_softmax(teacher, 1), F.log_softmax(logits, 1)
                best = logits.argmax(1)
                sums += torch.stack([
                    (best == batch.y).sum(), F.nll_loss(log_q, batch.y, reduction="sum"),
                    (best == teacher.argmax(1)).sum(), (log_p.exp() * (log_p - log_q)).sum(),
                ])  # fmt: skip
        _ = [float(total), *sums.tolist()]
