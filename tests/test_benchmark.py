"""benchmarks/speed.py on nets of no size: the names of its figures, and that each comes from a training."""

import json
from pathlib import Path

import pytest
import torch

import speed
import turns
from tests.conftest import SMALL
from turns import Steps, in_turns

TINY = [word for word in SMALL if not word.startswith(("epochs", "trainer"))]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"EPOCHS": 3, "SHORT_EPOCHS": 6, "BATCH": 8, "STEPS": 3, "PAIRS": {"tiny": TINY}}.items():
        monkeypatch.setattr(speed, name, value)
    monkeypatch.setattr(speed, "PEERS", tmp_path / "nothing")


@pytest.mark.slow
def test_figures_come_from_trainings_and_a_missing_peer_is_one_line(tiny: None, tmp_path: Path, capsys) -> None:
    session = speed.Session(tmp_path)
    speed.steps(session, "tiny")
    assert capsys.readouterr().out.count("\n") == 1, "torchdistill is not installed: one line and no ratio"
    speed.epochs(session, "digits", TINY, True)
    speed.curriculum(session)
    names = {name.partition("/")[0] for name in session.ratios}
    steps_and_epochs = {"kd_over_backprop", "hint_over_guided", "loader_share", "framework_over_loop"}
    assert names == steps_and_epochs | {"curriculum_over_plain"}
    assert {"kd_ratio_with_filling", "hint_ratio_with_filling"} <= set(session.details["steps"]["tiny/1t"])
    assert not list(tmp_path.glob("tiny/teacher*/metrics.csv")), "the teacher is not trained for this"


class Clock:
    """A clock that moves by what each step says it took, so that no test reads the machine's."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize(("turn", "warm"), [(0, 3), (2, 1)])
def test_what_takes_turns_is_timed_without_the_others_turns(turn: int, warm: int, monkeypatch) -> None:
    """Five epochs of two steps; the others' turns take a hundred seconds each."""
    clock = Clock()
    monkeypatch.setattr(turns, "time", clock)

    def others() -> None:
        clock.now += 100

    steps = Steps(others, turn)
    for step in range(10):
        steps.next(new_epoch=step % 2 == 0)
        clock.now += 1 if step % 2 == 0 else 3
    # of the four that are whole: not the first, and none of the first turn
    assert steps.warm() == [[1, 3]] * warm


def done(steps: Steps) -> None:
    pass


def fails(steps: Steps) -> None:
    raise TypeError("no work")


@pytest.mark.slow
def test_one_that_fails_is_named() -> None:
    with pytest.raises(RuntimeError, match="broken stopped; its error stands above"):
        in_turns({"fine": done, "broken": fails}, 1)


@pytest.mark.slow
def test_the_json_file_and_the_command_line(tmp_path: Path, capsys) -> None:
    threads = torch.get_num_threads()
    assert speed.main(["--only", "cli", "--threads", str(threads), "--json", str(tmp_path / "b.json")]) == 0
    written = json.loads((tmp_path / "b.json").read_text())
    assert set(written) == {"ratios", "details"}
    assert set(written["details"]["cli_cpu_seconds"]) == {"--help", "--cfg job"}
    assert written["details"]["versions"]["torch"] == torch.__version__
