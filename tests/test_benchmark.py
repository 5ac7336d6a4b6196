"""scripts/benchmark.py on nets of no size: the names of its figures, and that each comes from a training."""

import json
import time
from functools import partial
from pathlib import Path

import benchmark
import pytest
import torch
from benchmark_turns import Steps, in_turns

from tests.conftest import SMALL

TINY = [word for word in SMALL if not word.startswith(("epochs", "trainer"))]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"EPOCHS": 3, "SHORT_EPOCHS": 6, "BATCH": 8, "STEPS": 3, "PAIRS": {"tiny": TINY}}.items():
        monkeypatch.setattr(benchmark, name, value)
    monkeypatch.setattr(benchmark, "PEERS", tmp_path / "nothing")


@pytest.mark.slow
def test_figures_come_from_trainings_and_a_missing_peer_is_one_line(tiny: None, tmp_path: Path, capsys) -> None:
    out: benchmark.Figures = {"ratios": {}, "details": {}}
    benchmark.steps("tiny", 1, tmp_path, out)
    assert capsys.readouterr().out.count("\n") == 1, "torchdistill is not installed: one line and no ratio"
    benchmark.epochs("digits", TINY, True, 1, tmp_path, out)
    benchmark.curriculum(1, tmp_path, out)
    names = {name.partition("/")[0] for name in out["ratios"]}
    steps_and_epochs = {"kd_over_backprop", "hint_over_guided", "loader_share", "framework_over_loop"}
    assert names == steps_and_epochs | {"curriculum_over_plain"}
    assert all(0 < value < 100 for value in out["ratios"].values()), out["ratios"]
    steps = out["details"]["steps"]["tiny/1t"]
    assert steps["kd_ratio_with_filling"] > out["ratios"]["kd_over_backprop/tiny/1t"]
    assert steps["hint_ratio_with_filling"] > out["ratios"]["hint_over_guided/tiny/1t"]
    assert not list(tmp_path.glob("tiny/teacher*/metrics.csv")), "the teacher is not trained for this"


def sleeps(seconds: float, steps: Steps) -> None:
    """Five epochs of two steps."""
    for step in range(10):
        steps.next(new_epoch=step % 2 == 0)
        time.sleep(seconds)


@pytest.mark.slow
@pytest.mark.parametrize("turn", [0, 2])
def test_what_takes_turns_is_timed_without_the_others_turns(turn: int) -> None:
    found = in_turns({"short": partial(sleeps, 0.02), "long": partial(sleeps, 0.1)}, 1, turn)
    warm = 1 if turn else 3  # of the four that are whole: not the first, and none of the first turn
    assert len(found["short"].steps) == len(found["short"].ends) == warm and found["short"].length == 2
    assert 0.02 <= min(found["short"].steps) < 0.06, "a step of the other one is 0.1 s"
    assert 0.04 <= found["short"].epoch < 0.1 and 0.2 <= found["long"].epoch < 0.3


@pytest.mark.slow
def test_one_that_fails_is_named() -> None:
    with pytest.raises(RuntimeError, match="broken stopped; its error stands above"):
        in_turns({"fine": partial(sleeps, 0.0), "broken": partial(sleeps, "no number")}, 1)


def test_the_json_file_and_the_command_line(tmp_path: Path, capsys) -> None:
    threads = torch.get_num_threads()
    assert benchmark.main(["--only", "cli", "--threads", str(threads), "--json", str(tmp_path / "b.json")]) == 0
    written = json.loads((tmp_path / "b.json").read_text())
    assert set(written) == {"ratios", "details"}
    assert max(written["details"]["cli_cpu_seconds"].values()) <= benchmark.HELP_CPU_SECONDS
    assert written["details"]["versions"]["torch"] == torch.__version__
