"""One small training of every stage in conf/stage, with an eye on what it starts from, reads, does to its teacher."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import yaml
from torch import Tensor, nn

import run as door
from fitnets import assemble
from fitnets.commands import Config
from fitnets.data.module import DataModule
from fitnets.plan import plan
from fitnets.store import Run, with_parents
from tests.conftest import ROOT, composed
from tests.trained import state

FIRST = 3  # batches
SMALL = [  # with batch norm in both networks, whose statistics any forward pass in train mode would move
    "teacher=wide_relu",
    "teacher.net.widths=[8,12]",
    "teacher.net.kernel_size=3",
    "student=thin_relu",
    "student.net.blocks=[[4,4],[6,6],[8,8]]",
    "epochs.teacher=1",
    "epochs.hint=1",
    "epochs.kd=2",
    "trainer=cpu",
]


@dataclass
class Teacher:
    """A teacher that a stage has loaded."""

    net: nn.Module
    before: dict[str, Tensor]
    in_train_mode: set[str] = field(default_factory=set)  # modules that have run so
    forwards: int = 0


@dataclass
class Training:
    """What was seen of one training."""

    run: Run
    start: dict[str, Tensor] = field(default_factory=dict)  # weights before the first update
    batches: list[list[int]] = field(default_factory=list)  # sample ids of the first ones
    optimizer: tuple[str, str] = ("", "")  # its class, and its groups without their parameters
    teachers: list[Teacher] = field(default_factory=list)
    tested: list[tuple[int, int]] = field(default_factory=list)  # (epochs done, images) at each read of the test part


class Look(pl.Callback):
    def __init__(self, training: Training):
        self.training = training

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        (optimizer,) = trainer.optimizers
        groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        assert not optimizer.state, "fresh optimizer state"
        self.training.start = state(pl_module.net)
        self.training.optimizer = (type(optimizer).__name__, json.dumps(groups, sort_keys=True, default=str))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if len(self.training.batches) < FIRST:
            self.training.batches.append(batch.ids.tolist())


class Watch:
    """Runs commands and keeps what is seen of each of their trainings, by fingerprint."""

    def __init__(self) -> None:
        self.trainings: dict[str, Training] = {}
        self.current: Training | None = None

    def run(self, config: Config) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(assemble, "trained_net", self._loading(assemble.trained_net))
            patched.setattr(DataModule, "test_batch", self._reading(DataModule.test_batch))
            door.run(config, door.Options(callbacks=self._callbacks))

    def of(self, run: Run) -> Training:
        return self.trainings[run.fingerprint]

    def _callbacks(self, run: Run) -> list[pl.Callback]:
        self.current = self.trainings[run.fingerprint] = Training(run)
        return [Look(self.current)]

    def _loading(self, load: Any) -> Any:
        def loaded(*args: Any) -> nn.Module:
            net = load(*args)
            teacher = Teacher(net, state(net))

            def ran(module: nn.Module, _inputs: Any) -> None:
                teacher.forwards += 1
                if module.training:
                    teacher.in_train_mode.add(type(module).__name__)

            for module in net.modules():
                module.register_forward_pre_hook(ran)
            assert self.current is not None
            self.current.teachers.append(teacher)
            return net

        return loaded

    def _reading(self, read: Any) -> Any:
        def test_batch(data: DataModule, index: Tensor) -> Any:
            assert self.current is not None
            batches = getattr(data, "train_batches", None)  # none of a teacher that stays untrained
            self.current.tested.append((batches.done // len(batches) if batches else 0, len(index)))
            return read(data, index)

        return test_batch


@dataclass
class Watched:
    config: Config
    runs_dir: Path
    watch: Watch

    @property
    def arms(self) -> dict[str, list[Run]]:
        """The runs of each arm, in order."""
        return {arm: plan(self.config.at_stage(arm)) for arm in student_arms()}

    @property
    def runs(self) -> list[Run]:
        """All trained runs, those that the arms start from too."""
        return with_parents(run for runs in self.arms.values() for run in runs)


def stage_files() -> dict[str, dict[str, Any]]:
    """What the files of conf/stage say, by name."""
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf" / "stage").glob("*.yaml")}
    return {name: file.get("stage", file) for name, file in sorted(files.items())}


def student_arms() -> list[str]:
    """Every stage, or list of them, that gives a whole student."""
    return [
        name
        for name, stage in stage_files().items()
        if "steps" in stage or (stage.get("trains") == "student" and stage["tested"])
    ]


def train_all(runs_dir: Path) -> Watched:
    """Every arm that conf/stage has, at small sizes, seed 0; two of them also with the teacher asked at every step."""
    config, watch = composed(*SMALL, f"runs_dir={runs_dir}"), Watch()
    for arm in student_arms():
        watch.run(config.at_stage(arm))
    for arm in ("fitnet", "joint_hint_kd"):
        watch.run(config.changed({"answers": "online"}).at_stage(arm))
    return Watched(config, runs_dir, watch)
