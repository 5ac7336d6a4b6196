"""What a person sees: where a stage goes on, told before the work; figures and the time left in plain lines."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from fitnets.report.progress import StageProgress, clock
from fitnets.report.terminal import say_plan
from fitnets.runs import folder_of, plan, resumes_at, status, with_parents
from fitnets.train import train
from tests.conftest import ROOT, go, plan_parents
from tests.test_resume import Stop, StopAt


@pytest.mark.parametrize(("update", "epoch"), [(20, 2), (36, 3)])  # 18 updates an epoch: in the second, and at its end
def test_the_plan_names_the_epoch_at_which_training_then_goes_on(small, capsys, update: int, epoch: int) -> None:
    cfg = small("stage=hint", "epochs.teacher=1", "epochs.hint=4", "trainer.checkpoint_seconds=0")
    runs_dir = Path(cfg["runs_dir"])
    go(cfg | {"stage": {"name": "teacher"}})
    (run,) = plan(cfg)
    with pytest.raises(Stop):
        train(run, folder_of(run, runs_dir), plan_parents(run, runs_dir), cfg["trainer"], [StopAt(update=update)])
    assert resumes_at(run, runs_dir) == epoch
    capsys.readouterr()
    go(cfg)
    lines = capsys.readouterr().out.splitlines()
    (planned,) = [line for line in lines if line.startswith("  hint thin_deep seed 0")]
    assert f"resumes at epoch {epoch} " in planned
    assert f"[1/1] hint thin_deep seed 0: resumes at epoch {epoch}" in lines, "the training itself says the same"
    assert "reused" in next(line for line in lines if line.startswith("  teacher"))


def test_many_stages_are_a_line_a_kind_and_a_checkpoint_that_cannot_be_read_only_resumes(small) -> None:
    cfg = small("seeds=[0,1,2]")
    runs_dir, runs = Path(cfg["runs_dir"]), with_parents(plan(cfg))
    broken = next(run for run in runs if run.stage == "hint")
    folder_of(broken, runs_dir).mkdir(parents=True)
    (folder_of(broken, runs_dir) / "last.ckpt").write_bytes(b"not a zip file")
    assert resumes_at(broken, runs_dir) is None
    text = io.StringIO()
    say_plan(Console(file=text, width=200), runs, {r.fingerprint: status(r, runs_dir) for r in runs}, runs_dir)
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert lines[0].startswith("Plan: 13 stages, 13 to train")
    assert lines[1:] == [
        *("teacher wide_shallow to train x 1", "backprop thin_deep to train x 3", "hint thin_deep resumes x 1"),
        *("hint thin_deep to train x 2", "kd thin_deep to train x 3", "kd thin_deep after hint to train x 3"),
    ]


def test_planning_imports_no_torch() -> None:
    asked = "import sys, fitnets.report.terminal, fitnets.report.page; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.strip() == "False", answer.stderr


@pytest.mark.parametrize(("seconds", "told"), [(0.4, "0:00"), (75, "1:15"), (3675, "1:01:15")])
def test_clock(seconds: float, told: str) -> None:
    assert clock(seconds) == told


class Steps:
    """A trainer at the start of its second epoch of four, of ten updates each."""

    max_epochs, num_training_batches, current_epoch, global_step, world_size = 4, 10, 1, 10, 1

    def __init__(self) -> None:
        figures = {"val/accuracy": 0.9, "match/agreement": 0.8, "distill/lambda": 3.25, "train/loss": 1.0}
        self.callback_metrics = {name: torch.tensor(value) for name, value in figures.items()}


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_tells_the_figures_that_matter_the_speed_and_the_time_left(terminal: bool, monkeypatch) -> None:
    import fitnets.report.progress as progress

    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    text = io.StringIO()
    shown = StageProgress(Console(file=text, width=200, force_terminal=terminal), "[1/2] kd")
    trainer: Any = Steps()
    shown.on_train_start(trainer, None)
    shown.on_train_epoch_end(trainer, None)
    trainer.global_step, now[0] = 15, 150.0
    batch = type("Batch", (), {"ids": range(64)})
    shown.on_train_batch_end(trainer, None, None, batch, 4)
    if terminal:
        shown.bar.refresh()
    shown.on_fit_end(trainer, None)
    told = text.getvalue()
    for words in ("[1/2] kd", "lambda 3.25", "val accuracy 90.00%", "agreement 80.00%", "6 images/s"):
        assert words in told, told
    if not terminal:
        assert "resumes at epoch 2" in told and "epoch 1.5 of 4" in told and "\x1b" not in told
        assert "4:10 left" in told, "25 of 40 updates are left, at 10 seconds each"
