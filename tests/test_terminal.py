"""What a person sees: where a stage goes on, told before the work; figures and the time left in plain lines."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from fitnets.report.terminal import next_command, one_line, say_plan, summary
from fitnets.store import folder_of, resumes_at, status, with_parents
from fitnets.training.engine import train
from fitnets.training.progress import StageProgress, clock
from tests.conftest import ROOT, composed, go, named_runs, one_in, plan_parents
from tests.test_resume import Stop, StopAt

RESULT: dict[str, Any] = {
    "stage": "mine",
    "dataset": "digits",
    "data": {"uneven": False},
    "seed": 0,
    "kept_epoch": 2,
    "updates": 36,
    "seconds": 0.61,
    "params": 181258,
    "multiplications": 1843840,
    "test": {},
    "test_accuracy": None,
}
HINT = {"hint_layer": "conv2", "guided_layer": "conv6"}
REGRESSOR = {
    "regressor": "a map",
    "regressor_params": 7,
    "regressor_nonlinearity": "relu",
    "nonlinearity_because": "so",
}


STOPPED = [(20, 2), (36, 3)]  # 18 updates an epoch: in the second, and at its end


@pytest.mark.parametrize(("update", "epoch"), one_in(2, STOPPED))
def test_the_plan_names_the_epoch_at_which_training_then_goes_on(small, capsys, update: int, epoch: int) -> None:
    cfg = small("stage=hint", "epochs.teacher=1", "epochs.hint=4", "trainer.checkpoint_seconds=0")
    runs_dir = Path(cfg["runs_dir"])
    go(small("stage=teacher", "epochs.teacher=1"))
    (run,) = named_runs(cfg)
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


def test_many_stages_are_a_line_a_kind_and_a_checkpoint_without_its_hash_is_none(small) -> None:
    cfg = small("seeds=[0,1,2]")
    runs_dir, runs = Path(cfg["runs_dir"]), with_parents(named_runs(cfg))
    broken = next(run for run in runs if run.stage == "hint")
    folder_of(broken, runs_dir).mkdir(parents=True)
    (folder_of(broken, runs_dir) / "last.ckpt").write_bytes(b"without the hash and the epoch beside it")
    assert resumes_at(broken, runs_dir) is None
    text = io.StringIO()
    say_plan(Console(file=text, width=200), runs, {r.fingerprint: status(r, runs_dir) for r in runs}, runs_dir)
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert lines[0].startswith("Plan: 13 stages, 13 to train")
    assert [line.partition(" (")[0] if " (" in line else line for line in lines[1:]] == [
        *("teacher wide_shallow to train x 1", "backprop thin_deep to train x 3", "hint thin_deep to train x 3"),
        *("kd thin_deep to train x 3", "kd thin_deep after hint"),
    ]


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"validation": {"accuracy": 0.97, "nll": 0.1}}, "val accuracy 97.00%, 0.6 s"),
        ({"validation": {"accuracy": 0.9, "agreement": 0.8}}, "val accuracy 90.00%, agreement 80.00%, 0.6 s"),
        (
            {"validation": {"hint_loss": 475.912, "r2": -3.2962}, "hint": HINT | REGRESSOR},
            "hint loss 475.9, R2 -3.296, regressor a map, 0.6 s",
        ),
        ({"validation": {"hint_loss": 2.0}, "hint": HINT}, "hint loss 2, 0.6 s"),
        ({"validation": {"my_figure": 0.25}}, "my_figure 0.25, 0.6 s"),
        ({"validation": {}}, "left untrained"),
        (
            {"validation": {}, "score": {"samples": 1168, "teacher_sure": 0.5, "agreement": {"c_score": 0.25}}},
            "1,168 samples scored; the teacher is more than 99.9 % sure of 50.0% "
            "(rank agreement: with c_score 0.25), 0.6 s",
        ),
    ],
)
def test_a_line_tells_the_figures_that_are_there(result: dict[str, Any], told: str) -> None:
    assert one_line(RESULT | result) == told


def test_the_summary_of_any_stage_tells_the_figures_that_are_there() -> None:
    (run,) = named_runs(composed("stage=hint"))
    result = RESULT | {"validation": {"hint_loss": 2.5, "r2": 0.5}, "hint": HINT | REGRESSOR | {"reduction": "mean"}}
    lines = summary(run, result, Path("runs"), ["stage=hint"]).splitlines()
    for line in (
        "  hint                 conv2 (teacher) <- conv6 (student)",
        "  regressor            a map, 7 parameters",
        "                       non-linearity relu: so",
        "  validation hint loss 2.5  (mean)",
        "  validation R2        0.5000",
        "  kept                 epoch 2, 36 updates, 0.6 s",
        "  cost                 181,258 parameters, 1,843,840 multiplications",
    ):
        assert line in lines
    assert not any("accuracy" in line for line in lines)
    tested = {"validation": {"accuracy": 0.5}, "test_accuracy": 0.25, "test": {"accuracy": 0.25}}
    lines = summary(run, RESULT | tested, Path("runs"), []).splitlines()
    assert "  validation accuracy  50.00%" in lines and "  test accuracy        25.00%" in lines
    tested["test"]["balanced_accuracy"] = 0.125
    assert "balanced" not in summary(run, RESULT | tested, Path("runs"), [])
    uneven = summary(run, RESULT | tested | {"data": {"uneven": True}}, Path("runs"), []).splitlines()
    assert uneven.index("  balanced accuracy    12.50%") == uneven.index("  test accuracy        25.00%") + 1
    assert not any("hint loss" in line or "regressor" in line or "same answer" in line for line in lines)


def test_what_to_type_next_is_what_was_typed_with_the_next_stage() -> None:
    (run,) = named_runs(composed("stage=hint"))
    assert run.next is not None
    following = f"stage={run.next['stage']}"
    typed = next_command(run, Path("runs/a"), ["fresh=true", "stage=hint", "student=thin_relu"])
    assert typed.startswith(f"python run.py {following} student=thin_relu")
    untyped = next_command(run, Path("runs/a"), ["experiment=mine"])
    assert untyped.startswith(f"python run.py experiment=mine {following}"), "the experiment names the stage"
    last = next(run for run in named_runs(composed("stage=kd")))
    assert "load_student('runs/a')" in next_command(last, Path("runs/a"), [])


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
    import fitnets.training.progress as progress

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
