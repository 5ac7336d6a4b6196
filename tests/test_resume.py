"""A stage stopped anywhere and started again ends bit-equal to one that ran through."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from fitnets.runs import folder_of, plan, with_parents
from fitnets.train import train
from tests.conftest import go


class Stop(Exception):
    pass


class StopAt(pl.Callback):
    """Stops right before the given update, as a kill would; or at the end of the given epoch."""

    def __init__(self, update: int | None = None, epoch: int | None = None):
        self.update, self.epoch = update, epoch

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.update:
            raise Stop

    def on_validation_start(self, trainer: Any, *_: Any) -> None:
        if self.epoch is not None and trainer.current_epoch == self.epoch:
            raise Stop


@pytest.mark.parametrize(
    "where", [{"update": 1}, {"update": 20}, {"update": 36}, {"update": 37}, {"epoch": 1}], ids=str
)
@pytest.mark.parametrize("stage", ["teacher", "backprop", "hint", "kd"])
def test_stopped_and_started_again_it_ends_bit_equal(small, tmp_path: Path, stage: str, where: dict) -> None:
    """18 updates an epoch: 20 and 37 are in mid-epoch, 36 is a boundary; the teacher has dropout."""
    stopped_and_started_again(small, tmp_path, stage, where)


def stopped_and_started_again(small, tmp_path: Path, stage: str, where: dict, *words: str) -> None:
    plan_of = {"hint": "fitnet", "kd": "fitnet"}.get(stage, stage)
    cfg = small(
        f"stage={plan_of}", "epochs.teacher=3", "epochs.hint=3", "epochs.kd=3", "trainer.checkpoint_seconds=0", *words
    )
    go(cfg)
    runs_dir = Path(cfg["runs_dir"])
    run = next(run for run in with_parents(plan(cfg)) if run.stage == stage)
    parents = {role: folder_of(parent, runs_dir) for role, parent in run.parents.items()}
    folder = tmp_path / "again"
    with pytest.raises(Stop):
        train(run, folder, parents, cfg["trainer"], [StopAt(**where)])
    assert (folder / "last.ckpt").exists() and not (folder / "result.json").exists()
    torch.manual_seed(12345)  # a new process has another random state
    resumed_at: list[int] = []

    class Look(pl.Callback):
        def on_train_start(self, trainer: Any, *_: Any) -> None:
            resumed_at.append(trainer.global_step)

    train(run, folder, parents, cfg["trainer"], [Look()])
    assert resumed_at[0] >= where.get("update", 36) - 1, "it must go on where it was, not start again"
    done = folder_of(run, runs_dir)
    assert {p.name for p in folder.iterdir()} == {p.name for p in done.iterdir()}
    for weights in done.glob("*.safetensors"):
        assert weights.read_bytes() == (folder / weights.name).read_bytes()
    assert (folder / "metrics.csv").read_text() == (done / "metrics.csv").read_text()


@pytest.mark.parametrize("curriculum", ["easy_to_hard", "self_paced"])
@pytest.mark.parametrize("where", [{"update": 20}, {"update": 36}], ids=str)
def test_a_curriculum_goes_on_in_mid_epoch(small, tmp_path: Path, curriculum: str, where: dict) -> None:
    words = [f"curriculum={curriculum}", *(["curriculum.score.every=7"] if curriculum == "self_paced" else [])]
    stopped_and_started_again(small, tmp_path, "kd", where, *words)


def test_when_it_is_saved_has_no_influence(small, tmp_path: Path) -> None:
    weights = []
    for seconds in (0, 1000):
        cfg = small("stage=teacher", f"trainer.checkpoint_seconds={seconds}", f"runs_dir={tmp_path}/{seconds}")
        go(cfg)
        weights.append((folder_of(plan(cfg)[0], Path(cfg["runs_dir"])) / "teacher.safetensors").read_bytes())
    assert weights[0] == weights[1]
