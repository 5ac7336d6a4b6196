"""A stage stopped anywhere and started again ends bit-equal to one that ran through."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from fitnets.plan import plan
from fitnets.stages import optimizers
from fitnets.store import Run, folder_of, read_result, resumes_at, with_parents
from fitnets.training.engine import train
from tests.conftest import SMALL, composed, go, plan_parents, quick
from tests.stopping import Stop, StopAt

SHORT = ["epochs.teacher=3", "epochs.hint=3", "epochs.kd=3", "trainer.checkpoint_seconds=0"]
COMMANDS = {  # -> words, and which of the runs is stopped
    "teacher": (["stage=fitnet"], "teacher"),  # with dropout
    "hint": (["stage=fitnet"], "hint"),
    "kd": (["stage=fitnet"], "kd"),
    "backprop": (["stage=backprop"], "backprop"),
    "crd": (["stage=joint_hint_backprop", "hint_loss=crd", "hint=penultimate", "hint_loss.features=8"], "joint"),
    "easy_to_hard": (["stage=fitnet", "curriculum=easy_to_hard"], "kd"),
    "self_paced": (["stage=fitnet", "curriculum=self_paced", "curriculum.score.every=7"], "kd"),
}


@pytest.fixture(scope="session")
def ran_through(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Run, Path]]:
    """A run of COMMANDS that ran through, and where it lies; trained when it is first asked for. Tests only read it."""
    runs_dir = tmp_path_factory.mktemp("through") / "runs"

    def run_of(name: str) -> tuple[Run, Path]:
        words, stage = COMMANDS[name]
        config = composed(*SMALL, *SHORT, *words, f"runs_dir={runs_dir}")
        go(config)
        return [run for run in with_parents(plan(config)) if run.stage == stage][-1], runs_dir

    return run_of


PLACES = [{"update": 1}, {"update": 20}, {"update": 36}, {"update": 37}, {"epoch": 1}]
CASES = [("teacher", at) for at in PLACES]
CASES += [(name, at) for name in ("backprop", "hint", "kd") for at in PLACES[1::2] + PLACES[4:]]
CASES += [(name, at) for name in ("crd", "easy_to_hard", "self_paced") for at in ({"update": 20}, {"update": 36})]


QUICK = [(name, {"update": 20}) for name in ("kd", "crd")] + [("teacher", {"update": 36})]


@pytest.mark.parametrize(("name", "at"), quick(CASES, lambda case: case in QUICK), ids=str)
def test_stopped_and_started_again_it_ends_bit_equal(ran_through, tmp_path: Path, name: str, at: dict) -> None:
    """18 updates an epoch: 20 and 37 are in mid-epoch, 36 is a boundary, the epoch's end is before it is saved."""
    run, runs_dir = ran_through(name)
    stopped_and_started_again(run, runs_dir, tmp_path, at)


def stopped_and_started_again(run: Run, runs_dir: Path, tmp_path: Path, at: dict) -> None:
    parents = plan_parents(run, runs_dir)
    options = composed(*SMALL, *SHORT)["trainer"]
    again = tmp_path / "again"
    folder = folder_of(run, again)
    with pytest.raises(Stop):
        train(run, folder, parents, options, [StopAt(**at)])
    assert (folder / "last.ckpt").exists() and not (folder / "result.json").exists()
    assert resumes_at(run, again) == at.get("update", 35) // 18 + 1
    torch.manual_seed(12345)  # a new process has another random state
    resumed_at: list[int] = []

    class Look(pl.Callback):
        def on_train_start(self, trainer: Any, *_: Any) -> None:
            resumed_at.append(trainer.global_step)

    train(run, folder, parents, options, [Look()])
    assert resumed_at[0] >= at.get("update", 36) - 1, "it must go on where it was, not start again"
    done = folder_of(run, runs_dir)
    assert {p.name for p in folder.iterdir()} == {p.name for p in done.iterdir()}
    for weights in done.glob("*.safetensors"):
        assert weights.read_bytes() == (folder / weights.name).read_bytes(), weights.name
    assert (folder / "metrics.csv").read_text() == (done / "metrics.csv").read_text()


@pytest.mark.filterwarnings("ignore:Encountered `nan`")
@pytest.mark.slow
def test_the_best_weights_so_far_are_not_lost(small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learning rate that climbs the loss from the second epoch on: what is kept was best before the stop."""
    monkeypatch.setattr(optimizers, "lr_factor", lambda _name, step, _steps, _end: 1.0 if step < 18 else -1.0)
    config = small("stage=backprop", *SHORT, "keep=best")
    go(config)
    (run,) = plan(config)
    assert read_result(run, Path(config["runs_dir"]))["kept_epoch"] == 1
    stopped_and_started_again(run, Path(config["runs_dir"]), tmp_path, {"update": 25})


def test_when_it_is_saved_has_no_influence(small, tmp_path: Path) -> None:
    weights = []
    for seconds in (0, 1000):
        config = small("stage=teacher", f"trainer.checkpoint_seconds={seconds}", f"runs_dir={tmp_path}/{seconds}")
        go(config)
        weights.append((folder_of(plan(config)[0], Path(config["runs_dir"])) / "teacher.safetensors").read_bytes())
    assert weights[0] == weights[1]
