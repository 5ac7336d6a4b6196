"""Thousands of epochs and hundreds of runs: reports stay quick and small, and an epoch costs what the first ones do.

Times are of the processor, with room for a slow one.
"""

import csv
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import runs as runs_script
from fitnets.report.charts import POINTS, telling
from fitnets.report.folders import finished_in
from fitnets.report.page import write_page
from fitnets.tracking.loggers import Loggers
from tests.conftest import go
from tests.faked_runs import faked_run, faked_teacher
from tests.test_page import Page

COLUMNS = [f"train/figure_{number}" for number in range(15)]


def epochs(count: int, seed: int) -> list[dict[str, float]]:
    """metrics.csv of a run that learns, with noise: `count` rows of twenty columns."""
    noise = np.random.default_rng(seed).normal(0, 0.01, count)
    found = []
    for epoch, wobble in enumerate(noise.tolist(), start=1):
        figures = {
            "val/accuracy": 0.9 - 0.5 / epoch + wobble,
            "val/nll": 0.2 + 1 / epoch + wobble,
            "match/agreement": 0.5,
        }
        found.append({"epoch": epoch, "updates": 5 * epoch} | figures | dict.fromkeys(COLUMNS, wobble))
    return found


def page_of(runs_dir: Path) -> tuple[Page, float]:
    """The page of all runs, and the seconds that it took."""
    started = time.process_time()
    path = write_page(finished_in(runs_dir), runs_dir.parent / "page.html", "Long", [])
    spent = time.process_time() - started
    return Page(path), spent


def test_a_page_of_thousands_of_epochs_is_quick_and_small(tmp_path: Path) -> None:
    teacher = faked_teacher(tmp_path / "runs")
    for seed in range(3):
        faked_run(tmp_path / "runs", "KD", seed, parents={"teacher": teacher}, metrics=epochs(2000, seed))
    page, spent = page_of(tmp_path / "runs")
    assert spent < 15 and len(page.raw) < 250_000
    assert page.problems == [] and "Validation accuracy over updates" in page.svg


@pytest.mark.slow
def test_a_page_of_hundreds_of_runs_is_quick_and_small(tmp_path: Path, capsys) -> None:
    teacher, metrics = faked_teacher(tmp_path / "runs"), [epochs(200, seed) for seed in range(5)]
    for number in range(300):
        config = {"kd_loss": {"_target_": "fitnets.losses.logits.kd", "temperature": number // 15 + 1.0}}
        arm, seed = ("KD", "DKD", "CRD")[number % 3], number // 3 % 5
        faked_run(
            tmp_path / "runs", arm, seed, 0.5 + number / 1000, {"teacher": teacher}, config, metrics=metrics[seed]
        )
    page, spent = page_of(tmp_path / "runs")
    assert spent < 30 and len(page.raw) < 3_000_000
    assert page.problems == [] and len(page.table()) == 61 and {row["n"] for row in page.table()} == {"1", "5"}
    assert "of 60 rows the 8 best on validation are drawn" in page.text
    started = time.process_time()
    runs_script.show(runs_script.found_runs(tmp_path / "runs"))
    assert time.process_time() - started < 10 and len(capsys.readouterr().out.splitlines()) == 301


@pytest.mark.parametrize("count", [1, POINTS, POINTS + 1, 2000, 100_003])
def test_the_points_that_are_drawn_of_a_curve_keep_its_ends_and_its_extremes(count: int) -> None:
    values = np.random.default_rng(0).normal(size=count)
    drawn = telling(values.tolist())
    assert len(drawn) <= POINTS and all(one < other for one, other in pairwise(drawn))
    assert {0, count - 1, int(values.argmin()), int(values.argmax())} <= set(drawn)
    assert max(np.diff([0, *drawn])) <= max(1, 4 * count / POINTS), "no stretch is left out"
    assert drawn == list(range(count)) or count > POINTS


def test_an_epoch_costs_what_the_first_ones_do(small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a training of many epochs: each row is handed to the loggers once, and added to metrics.csv, which is not
    written again: a letter that is changed in its head stays changed."""
    config = small("stage=backprop", "epochs.hint=1", "epochs.kd=149", "updates_per_epoch=1")
    told, heads, hand_on = [], list[str](), Loggers.row

    def row(self: Loggers, row: dict[str, float], new: bool = True) -> None:
        told.append(row["epoch"])
        (file,) = Path(config["runs_dir"]).glob("*/metrics.csv")
        if len(told) == 3:
            file.write_text(file.read_text().replace("epoch", "Epoch", 1))
        heads.append(file.read_text()[:5])
        hand_on(self, row, new)

    monkeypatch.setattr(Loggers, "row", row)
    go(config)
    assert told == list(range(1, 151)) and set(heads[2:]) == {"Epoch"}
    (file,) = Path(config["runs_dir"]).glob("*/metrics.csv")
    assert [int(line["epoch"]) for line in csv.DictReader(file.read_text().splitlines())] == told, "whole at its end"
