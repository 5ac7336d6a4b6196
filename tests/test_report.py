"""The table can be trusted: its figures are those on disk, its interval is the textbook's."""

import csv
import json
import struct
from pathlib import Path
from statistics import mean, stdev

import pytest
from scipy import stats

from fitnets.report.arms import paired_difference
from fitnets.report.compare import rows
from fitnets.runs import folder_of, plan, read_result
from tests.conftest import go


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def test_paired_difference_is_the_textbook_interval() -> None:
    arm, base = {0: 0.98, 1: 0.97, 2: 0.99}, {0: 0.95, 1: 0.96, 2: 0.94}
    middle, half = paired_difference(arm, base)
    low, high = stats.ttest_rel([arm[s] for s in arm], [base[s] for s in arm]).confidence_interval(0.95)
    assert (middle - half, middle + half) == (pytest.approx(low), pytest.approx(high))


def test_rows_are_what_is_on_disk(compared) -> None:
    cfg, runs_dir = compared
    named = plan(cfg)
    results = {run.fingerprint: read_result(run, runs_dir) for run in named}
    for row in rows(named, results, ["backprop", "kd", "fitnet"]):
        last = [results[r.fingerprint] for r in named if r.arm == row.arm and r.stage != "hint"]
        accuracies = [result["test_accuracy"] for result in last]
        assert (row.n, row.accuracy_mean, row.accuracy_sd) == (2, mean(accuracies), stdev(accuracies))
        assert row.updates == 5 * 18 and row.params == last[0]["params"]
        assert (row.difference is None) == (row.arm == "backprop")
        all_seconds = sum(results[r.fingerprint]["seconds"] for r in named if r.arm == row.arm)
        assert row.seconds == pytest.approx(all_seconds / 2)


def test_the_report_is_written_with_the_command_and_the_teacher_on_top(compared) -> None:
    _, runs_dir = compared
    (folder,) = (runs_dir / "reports").iterdir()
    text = (folder / "table.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "teacher (wide_shallow)", "backprop", "KD", "hint then KD",
    ]  # fmt: skip
    assert "python run.py" in text and "one set of hyper-parameters" in text
    table = read_csv(folder / "table.csv")
    assert [row["arm"] for row in table] == ["backprop", "kd", "fitnet"]
    width, height = struct.unpack(">II", (folder / "curves.png").read_bytes()[16:24])
    assert (width, height) == (1500, 600)


def test_metrics_csv_holds_every_figure_as_a_finite_number(compared) -> None:
    cfg, runs_dir = compared
    expected = {
        "hint": {"train/hint_loss", "val/hint_loss", "val/r2"},
        "backprop": {"train/loss", "val/accuracy", "val/nll"},
        "kd": {"train/loss", "distill/hard", "distill/soft", "distill/lambda", "match/agreement", "match/kl"},
    }
    for run in plan(cfg):
        table = read_csv(folder_of(run, runs_dir) / "metrics.csv")
        assert expected[run.stage] | {"epoch", "updates", "train/lr"} <= set(table[0])
        assert all(abs(float(value)) < 1e6 for row in table for value in row.values())
        assert [int(row["updates"]) for row in table] == [18 * (i + 1) for i in range(len(table))]


def test_validation_figures_are_those_of_the_kept_epoch(compared) -> None:
    cfg, runs_dir = compared
    for run in plan(cfg):
        folder = folder_of(run, runs_dir)
        result = json.loads((folder / "result.json").read_text())
        row = read_csv(folder / "metrics.csv")[result["kept_epoch"] - 1]
        for name, value in result["validation"].items():
            key = next(key for key in (f"val/{name}", f"match/{name}") if key in row)
            assert float(row[key]) == value


def test_the_plot_without_hints_has_one_panel_only(small) -> None:
    cfg = small("seeds=[0,1]", "stage.arms=[backprop,kd]", "epochs.teacher=1", "epochs.hint=1", "epochs.kd=1")
    go(cfg)
    assert len(list(Path(cfg["runs_dir"]).glob("reports/*/curves.png"))) == 1


@pytest.mark.parametrize("option", ["patience=1", "retrain_on_all=true"])
def test_a_comparison_with_patience_or_retraining_has_its_table_and_says_so(small, option: str) -> None:
    cfg = small("seeds=[0,1]", option, "epochs.teacher=1", "epochs.hint=2", "epochs.kd=3", "keep=best")
    go(cfg)
    (table,) = Path(cfg["runs_dir"]).glob("reports/*/table.md")
    assert ("UNEQUAL UPDATES" in table.read_text()) == option.startswith("patience")
    assert (table.parent / "curves.png").stat().st_size > 5000


def test_every_arm_has_a_name_and_a_colour_of_its_own() -> None:
    from fitnets.report.arms import ARM_NAMES, COLORS
    from fitnets.runs import ARMS, ORDERS

    assert set(ARM_NAMES) == {*ARMS, *ORDERS} == set(COLORS)
    for together in (ARMS, ORDERS):  # what one table may hold
        for look in (ARM_NAMES, COLORS):
            assert len({look[arm] for arm in together}) == len(together)
