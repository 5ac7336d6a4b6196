"""scripts/reproduce.py: the paper's tables through the store, resumable, budgets told."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import reproduce
from tests.conftest import ROOT, faked_parquet, one_in, quick

SHARED = ROOT.parent / "shared" / "data"
COLUMNS = ["student", "recipe", "budget", "arm", "n", "error_mean", "error_sd", "paper_error", "updates", "seconds"]


def table(out: Path, name: str = "mnist") -> tuple[list[str], list[dict[str, str]]]:
    lines = (out / f"{name}.csv").read_text().splitlines()
    return [x for x in lines if x.startswith("#")], list(csv.DictReader(x for x in lines if not x.startswith("#")))


@pytest.fixture
def typed(tmp_path: Path) -> list[str]:
    path = faked_parquet(tmp_path / "data", size=28, channels=1, n=60)
    small = ["--set", "batch_size=16", "--set", "teacher.recipe.batch_size=16", "--set", "trainer=cpu"]
    where = ["--path", str(path), "--runs-dir", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    return ["mnist", *where, *small, "--teacher-budget", "1", "--seeds", "0,1"]


@pytest.mark.slow
def test_a_table_from_nothing_stopped_and_gone_on_with(typed: list[str], tmp_path: Path, capsys) -> None:
    words = [*typed, "--budget", "modern=2,paper=3"]
    assert reproduce.main([*words, "--only-table"]) == 1, "nothing is on disk yet"
    assert reproduce.main([*typed, "--seeds", "0", "--budget", "modern=2"]) == 0
    first = (tmp_path / "runs").stat().st_mtime_ns, len(list((tmp_path / "runs").glob("*/result.json")))
    assert first[1] == 5, "teacher, backprop, KD, hint, KD after it"
    assert reproduce.main(words) == 0
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 1 + 2 * 2 * 4
    capsys.readouterr()
    assert reproduce.main(words) == 0
    assert "Nothing to train" in capsys.readouterr().out
    head, rows = table(tmp_path / "out")
    assert list(rows[0]) == COLUMNS
    assert any("command: python scripts/reproduce.py mnist" in line for line in head)
    assert any("torch" in line and "thread" in line for line in head) and str(tmp_path) not in head[0]
    keys = [(row["recipe"], row["arm"]) for row in rows]
    assert keys == [("own", "teacher")] + [(r, a) for r in ("paper", "modern") for a in ("backprop", "kd", "fitnet")]
    assert [row["budget"] for row in rows] == ["1/500"] + ["3/1000"] * 3 + ["2/60"] * 3
    assert [row["n"] for row in rows] == ["1"] + ["2"] * 6 and all(row["error_sd"] for row in rows[1:])
    assert {row["paper_error"] for row in rows} == {"0.55", "1.9", "0.65", "0.51"}
    for recipe in ("paper", "modern"):
        assert len({row["updates"] for row in rows if row["recipe"] == recipe}) == 1, "equal updates"
    for row in rows[1:]:  # computed again from the run folders
        errors = [100 - 100 * run["test"]["accuracy"] for run in students(tmp_path / "runs", row)]
        assert len(errors) == 2
        assert float(row["error_mean"]) == pytest.approx(np.mean(errors))
        assert float(row["error_sd"]) == pytest.approx(np.std(errors, ddof=1))
    assert (tmp_path / "out" / "mnist.png").stat().st_size > 5000
    assert "2/60" in (tmp_path / "out" / "mnist.md").read_text()


def students(runs_dir: Path, row: dict[str, str]) -> list[dict[str, Any]]:
    """result.json of the tested students of a row's arm and recipe, which are told apart by their optimizer."""
    optimizer = {"paper": "torch.optim.SGD", "modern": "torch.optim.AdamW"}[row["recipe"]]
    found = []
    for path in runs_dir.glob("*/result.json"):
        result, config = json.loads(path.read_text()), yaml.safe_load((path.parent / "config.yaml").read_text())
        tested = result["student"] and result["tested"] and result["arm"] == row["arm"]
        if tested and config["recipe"]["optimizer"]["_target_"] == optimizer:
            found.append(result)
    return found


@pytest.mark.slow
def test_rows_with_patience_are_marked(typed: list[str], tmp_path: Path) -> None:
    assert reproduce.main([*typed, "--recipes", "modern", "--budget", "2", "--set", "patience=1"]) == 0
    assert all("unequal updates" in row["budget"] for row in table(tmp_path / "out")[1])


WRONG = [
    (["mnist", "--recipes", "papre"], "has no recipe papre; choose from: paper, paper_code, modern"),
    (["mnist", "--budget", "modern=1"], "expected N or RECIPE=N"),
    (["mnist", "--seeds", "a"], "seeds"),
    (["mnist", "--arms", "kd,kdd"], "kdd"),
    (["mnist", "--set", "temprature=3"], "temperature"),
]


@pytest.mark.parametrize(("words", "told"), one_in(3, WRONG))
def test_bad_words_are_one_error(words: list[str], told: str, capsys, tmp_path: Path) -> None:
    assert reproduce.main([*words, "--runs-dir", f"{tmp_path}/runs"]) == 2
    error = capsys.readouterr().err
    assert told in error and "nothing was trained" in error and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_table_takes_every_arm_that_a_comparison_takes(typed: list[str], tmp_path: Path) -> None:
    """One of conf/arm, with its own loss; the paper prints nothing beside it."""
    assert reproduce.main([*typed, "--recipes", "modern", "--budget", "2", "--arms", "backprop,dkd"]) == 0
    rows = table(tmp_path / "out")[1]
    assert [row["arm"] for row in rows] == ["teacher", "backprop", "dkd"] and rows[2]["paper_error"] == ""
    assert "DKD" in (tmp_path / "runs" / "reports" / "mnist.html").read_text()


def test_only_printed_numbers_stand_beside_ours() -> None:
    """FitNets 1 to 4: hint then KD only; the depth study and the pairs have none."""
    printed = {name: yaml.safe_load(file.read_text()).get("paper_error", {}) for name, file in reproduce.TABLES.items()}
    assert {name for name, errors in printed.items() if errors} == {"mnist", "cifar10"}
    assert printed["cifar10"].keys() == {"teacher", "fitnet"}
    assert printed["cifar10"]["fitnet"].keys() == {f"fitnet{i}" for i in (1, 2, 3, 4)}


@pytest.mark.parametrize("name", quick(reproduce.TABLES, lambda name: name == "mnist"))
def test_every_table_is_made_of_commands_that_exist(name: str, tmp_path: Path, capsys) -> None:
    """Nothing is on disk, so each condition is composed and checked, and none is found."""
    data = ["--path", str(faked_parquet(tmp_path / "data", size=32, channels=3, n=10))] if "digits" not in name else []
    assert reproduce.main([name, "--only-table", "--runs-dir", f"{tmp_path}/runs", *data]) == 1
    assert "run it without --only-table" in capsys.readouterr().err


@pytest.mark.slow
def test_cifar10_runs_end_to_end_at_a_small_budget(tmp_path: Path) -> None:
    """Real images where they are, else images of the same shape; whitened, cropped, every arm of FitNet 1."""
    path = faked_parquet(tmp_path / "data", size=32, channels=3, n=1000)
    if SHARED.exists():
        for part, count in (("train", 1000), ("test", 500)):
            name = f"{part}-00000-of-00001.parquet"
            pq.write_table(pq.read_table(SHARED / "cifar10" / name).slice(0, count), path / name)
    where = ["--path", str(path), "--runs-dir", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    few = ["--seeds", "0,1", "--budget", "2", "--teacher-budget", "1"]
    assert reproduce.main(["cifar10", *where, *few, "--recipes", "paper_code", "--students", "fitnet1"]) == 0
    rows = table(tmp_path / "out", "cifar10")[1]
    assert [row["arm"] for row in rows] == ["teacher", "backprop", "kd", "fitnet"]
    assert rows[3]["paper_error"] == "10.99" and rows[1]["paper_error"] == ""
    assert {row["budget"] for row in rows[1:]} == {"2/788"} and rows[0]["budget"] == "1/474"
