"""scripts/benchmark.py on nets of no size: the names of its figures, and that each comes from a training."""

import json
from pathlib import Path

import benchmark
import pytest
import torch

from tests.conftest import SMALL

TINY = [word for word in SMALL if not word.startswith(("epochs", "trainer"))]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "ROUNDS", 1)
    monkeypatch.setattr(benchmark, "EPOCHS", 3)
    monkeypatch.setattr(benchmark, "BATCH", 8)
    monkeypatch.setattr(benchmark, "STEPS", 3)
    monkeypatch.setattr(benchmark, "PAIRS", {"tiny": TINY})


@pytest.mark.slow
def test_figures_of_steps_and_epochs_come_from_trainings(tiny: None, tmp_path: Path) -> None:
    out: benchmark.Figures = {"ratios": {}, "details": {}}
    benchmark.steps("tiny", 1, tmp_path, out)
    benchmark.epochs(1, tmp_path, out)
    benchmark.curriculum(1, tmp_path, out)
    names = {name.partition("/")[0] for name in out["ratios"]}
    steps_and_epochs = {"kd_over_backprop", "hint_over_guided", "loader_share", "framework_over_loop"}
    assert names == steps_and_epochs | {"curriculum_over_plain"}
    assert all(0 < value < 100 for value in out["ratios"].values()), out["ratios"]
    steps = out["details"]["steps"]["tiny/1t"]
    assert steps["kd_ratio_with_filling"] > out["ratios"]["kd_over_backprop/tiny/1t"]
    assert steps["hint_ratio_with_filling"] > out["ratios"]["hint_over_guided/tiny/1t"]
    assert not list(tmp_path.glob("tiny-1/teacher*/metrics.csv")), "the teacher is not trained for this"


def test_a_missing_peer_is_one_line_and_no_ratio(tiny: None, monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr(benchmark, "PEERS", tmp_path / "nothing")
    out: benchmark.Figures = {"ratios": {}, "details": {}}
    benchmark.peers(1, tmp_path, out)
    assert not out["ratios"]
    assert capsys.readouterr().out.count("\n") == 1


def test_the_json_file_and_the_command_line(tmp_path: Path, capsys) -> None:
    threads = torch.get_num_threads()
    assert benchmark.main(["--only", "cli", "--threads", str(threads), "--json", str(tmp_path / "b.json")]) == 0
    written = json.loads((tmp_path / "b.json").read_text())
    assert set(written) == {"ratios", "details"}
    assert max(written["details"]["cli_cpu_seconds"].values()) <= benchmark.HELP_CPU_SECONDS
    assert written["details"]["versions"]["torch"] == torch.__version__
