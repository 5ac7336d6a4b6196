"""The table can be trusted: its figures are those on disk, its interval the textbook's, arms need no name of ours."""

import csv
import io
import json
import struct
from pathlib import Path
from statistics import mean, stdev

import pytest
import yaml
from rich.console import Console
from scipy import stats

from fitnets.report.charts import SERIES
from fitnets.report.plots import styles_of
from fitnets.report.rows import baseline_of, paired_difference
from fitnets.report.table import Entry, Report, rows_of, write
from fitnets.store import folder_of
from tests.conftest import go, named_runs
from tests.faked_runs import RECIPE, faked_hint, faked_run, faked_teacher

CURRICULUM = {"score": {"name": "c_score"}, "pacing": {"name": "linear"}, "balanced": False}


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def written(entries: list[Entry], folder: Path, **options) -> str:
    """What is printed of a report."""
    text = io.StringIO()
    write(Report(folder, "python run.py", entries, **options), Console(file=text, soft_wrap=True, width=300))
    return text.getvalue()


def png_size(path: Path) -> tuple[int, int]:
    return struct.unpack(">II", path.read_bytes()[16:24])


def two_seeds(runs_dir: Path, *arms: str, **run) -> list[Entry]:
    """Two seeds of each arm; those beside the first learn from a teacher."""
    teacher = faked_teacher(runs_dir)
    entries = []
    for seed in (0, 1):
        for number, arm in enumerate(arms):
            parents = {"teacher": teacher} if number else {}
            folder = faked_run(runs_dir, arm, seed, 0.8 + 0.02 * number + 0.01 * seed, parents, **run)
            entries.append(Entry({"arm": arm}, folder, f"name_{number}"))
    return entries


# ------------------------------------------------------------------------------------------ figures


def test_paired_difference_is_the_textbook_interval() -> None:
    arm, base = {0: 0.98, 1: 0.97, 2: 0.99}, {0: 0.95, 1: 0.96, 2: 0.94}
    middle, half = paired_difference(arm, base)
    low, high = stats.ttest_rel([arm[s] for s in arm], [base[s] for s in arm]).confidence_interval(0.95)
    assert half is not None and (middle - half, middle + half) == (pytest.approx(low), pytest.approx(high))
    assert paired_difference({1: 0.75}, {0: 0.25, 1: 0.5}) == (0.25, None), "one seed has no interval"


def test_the_table_is_what_is_on_disk(compared) -> None:
    _, runs_dir = compared
    results = [json.loads(path.read_text()) for path in runs_dir.glob("*/result.json")]
    (folder,) = (runs_dir / "reports").iterdir()
    table = read_csv(folder / "table.csv")
    assert [row["arm"] for row in table] == ["backprop", "kd", "fitnet"], "as they are typed"
    base = {r["seed"]: r["test_accuracy"] for r in results if r["arm"] == "backprop"}
    for row in table:
        every = [r for r in results if r["arm"] == row["arm"]]
        last = [r for r in every if r["tested"]]
        accuracies = {r["seed"]: r["test_accuracy"] for r in last}
        assert row["n"] == "2" and set(accuracies) == {0, 1}
        assert float(row["accuracy_mean"]) == mean(accuracies.values())
        assert float(row["accuracy_sd"]) == pytest.approx(stdev(accuracies.values()))
        assert int(row["updates"]) == 5 * 18 and int(row["params"]) == last[0]["params"]
        assert float(row["seconds"]) == pytest.approx(sum(r["seconds"] for r in every) / 2)
        if row["arm"] == "backprop":
            assert row["difference"] == ""
        else:
            assert float(row["difference"]) == pytest.approx(mean(accuracies[s] - base[s] for s in (0, 1)))


def test_the_report_is_written_with_the_command_and_the_teacher_on_top(compared) -> None:
    _, runs_dir = compared
    (folder,) = (runs_dir / "reports").iterdir()
    text = (folder / "table.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "teacher (wide_shallow)", "backprop", "KD", "hint then KD",
    ]  # fmt: skip
    assert "python run.py" in text and "one set of hyper-parameters" in text and "same number of updates" in text
    assert "thin_deep from wide_shallow on digits, all labels, init scaled" in text
    assert png_size(folder / "curves.png") == (1500, 600), "two panels, as there are hint stages"


def test_the_plot_without_hints_has_one_panel_only(tmp_path: Path) -> None:
    entries = two_seeds(tmp_path / "runs", "plain", "other")
    written(entries, tmp_path / "without", fixed=True)
    assert png_size(tmp_path / "without" / "curves.png") == (960, 600)
    teacher = faked_teacher(tmp_path / "runs")
    for seed in (0, 1):
        parents = {"teacher": teacher, "student": faked_hint(tmp_path / "runs", seed, teacher)}
        entries.append(Entry({"arm": "after"}, faked_run(tmp_path / "runs", "after", seed, parents=parents)))
    written(entries, tmp_path / "with", fixed=True)
    assert png_size(tmp_path / "with" / "curves.png") == (1500, 600)


def test_steps_of_one_student_are_summed(tmp_path: Path) -> None:
    teacher = faked_teacher(tmp_path)
    hint = faked_hint(tmp_path, 0, teacher)
    (row,) = rows_of([Entry({}, faked_run(tmp_path, "after", parents={"teacher": teacher, "student": hint}))])
    assert (row.updates, row.seconds) == (20, 2.0), "its own and its hint stage's, not the teacher's"


# ---------------------------------------------------------------------------- arms that nobody knows


def test_an_arm_that_nobody_knows_has_a_title_and_a_colour_of_its_own(tmp_path: Path) -> None:
    titles = ["plain", *(f"arm number {n}" for n in range(1, 12))]
    entries = two_seeds(tmp_path / "runs", *titles)
    rows = rows_of(entries)
    styles = styles_of(rows, baseline_of(rows))
    assert styles[rows[0]].color == SERIES[0], "the baseline is grey"
    looks = [(styles[row].color, str(styles[row].dash)) for row in rows]
    assert len(set(looks)) == len(titles) and SERIES[-1] not in [color for color, _ in looks], "that is the teacher's"
    printed = written(entries, tmp_path / "out", fixed=True)
    page = (tmp_path / "out" / "page.html").read_text()
    assert all(title in printed and title in page for title in titles) and "vs plain" in printed
    assert [row["arm"] for row in read_csv(tmp_path / "out" / "table.csv")] == [f"name_{n}" for n in range(12)]


def test_a_page_names_arms_as_the_table_does_whatever_trained_them_first(tmp_path: Path) -> None:
    entries = two_seeds(tmp_path / "runs", "plain", "KD")
    entries = [Entry({"arm": entry.at["arm"] + " of mine"}, entry.folder) for entry in entries]
    written(entries, tmp_path / "out", fixed=True)
    page = (tmp_path / "out" / "page.html").read_text()
    assert "<td>KD of mine</td>" in page and "<td>KD</td>" not in page and "vs plain of mine" in page


# ---------------------------------------------------------------------------------------- baselines


def test_without_a_student_that_learned_from_labels_alone_there_is_no_difference(tmp_path: Path) -> None:
    entries = [entry for entry in two_seeds(tmp_path / "runs", "plain", "a", "b") if entry.at["arm"] != "plain"]
    assert "vs" not in written(entries, tmp_path / "out", fixed=True).partition("All arms")[0]
    assert "difference" not in read_csv(tmp_path / "out" / "table.csv")[0]


@pytest.mark.parametrize("helped", [{"hint": {"student_layer": "middle"}}, {"kd_loss": {"_target_": "a.b"}}])
def test_who_is_helped_is_no_baseline(tmp_path: Path, helped: dict) -> None:
    rows = rows_of(
        [Entry({"arm": "helped"}, faked_run(tmp_path, "helped", config=helped)), *two_seeds(tmp_path, "plain")]
    )
    baseline = baseline_of(rows)
    assert baseline is not None and baseline.arm == "plain"


@pytest.mark.parametrize(
    ("orders", "baseline"),
    [
        (["easy", "random", "none"], "none"),
        (["easy", "random", "hard"], "random"),
        (["easy", "hard"], None),
    ],
)
def test_orders_are_held_against_no_curriculum_or_else_a_random_one(
    tmp_path: Path, orders: list[str], baseline: str | None
) -> None:
    teacher = faked_teacher(tmp_path)
    entries = []
    for order in orders:
        curriculum = {"name": "none"} if order == "none" else CURRICULUM | {"name": order, "order": {"name": order}}
        folder = faked_run(tmp_path, order, parents={"teacher": teacher}, config={"curriculum": curriculum})
        entries.append(Entry({"arm": order}, folder))
    found = baseline_of(rows_of(entries))
    assert (found.arm if found else None) == baseline
    title = written(entries, tmp_path / "out", fixed=True).strip().splitlines()[0]
    assert "score c_score, pacing linear" in title and title.startswith("net by ")


def test_of_several_arms_without_a_curriculum_none_is_a_baseline_but_that_from_labels_alone(tmp_path: Path) -> None:
    entries = [entry for entry in two_seeds(tmp_path, "plain", "a", "b") if entry.at["arm"] != "plain"]
    curriculum = CURRICULUM | {"name": "easy", "order": {"name": "easy"}}
    entries.append(Entry({"arm": "ordered"}, faked_run(tmp_path, "ordered", config={"curriculum": curriculum})))
    assert baseline_of(rows_of(entries)) is None
    plain = Entry({"arm": "plain"}, faked_run(tmp_path, "plain"))
    found = baseline_of(rows_of([*entries, plain]))
    assert found is not None and found.arm == "plain"


# ------------------------------------------------------------------------------- what is not alike


def test_the_note_says_where_arms_are_not_alike(tmp_path: Path) -> None:
    entries = two_seeds(tmp_path / "runs", "plain", "other")
    other = RECIPE | {"keep": "last", "batch_size": 32}
    faster = faked_run(tmp_path / "runs", "faster", config={"recipe": other}, result={"updates": 20})
    text = written([*entries, Entry({"arm": "faster"}, faster)], tmp_path / "out", fixed=True)
    assert "DIFFERENT HYPER-PARAMETERS" in text and "UNEQUAL UPDATES" in text and "same initial weights" in text
    assert "DIFFERENT" not in written(entries, tmp_path / "alike", fixed=True)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["patience=1", "retrain_on_all=true"])
def test_a_comparison_with_patience_or_retraining_has_its_table_and_says_so(small, option: str) -> None:
    cfg = small("seeds=[0,1]", option, "epochs.teacher=1", "epochs.hint=2", "epochs.kd=3", "keep=best")
    go(cfg)
    (table,) = Path(cfg["runs_dir"]).glob("reports/*/table.md")
    updates = {row["updates"] for row in read_csv(table.with_name("table.csv"))}
    text = table.read_text()
    assert ("UNEQUAL UPDATES (patience 1)" in text) == option.startswith("patience")
    assert option.startswith("patience") or ("UNEQUAL UPDATES" in text) == (len(updates) > 1)
    assert png_size(table.with_name("curves.png")) == (1500, 600)


# ------------------------------------------------------------------------- chosen on validation


def entry(runs_dir: Path, at: str, seed: int, accuracy: float, nll: float = 1.0) -> Entry:
    """A run whose test accuracy is the lower the higher that on validation."""
    result = {
        "validation": {"accuracy": accuracy, "nll": nll},
        "test": {"accuracy": 1 - accuracy},
        "test_accuracy": 1 - accuracy,
    }
    return Entry({"temperature": at}, faked_run(runs_dir, "mine", seed, result=result))


def test_the_best_on_validation_is_chosen_whatever_test_says(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    entries = [entry(runs, "1", 0, 0.7), entry(runs, "2", 0, 0.9), entry(runs, "3", 0, 0.8)]
    printed = written(entries, tmp_path / "out")
    table = read_csv(tmp_path / "out" / "table.csv")
    assert [(row["temperature"], row["chosen"]) for row in table] == [("1", "False"), ("2", "True"), ("3", "False")]
    assert [row["test"] != "" for row in table] == [False, True, False]
    assert "30.00" not in printed and "10.00" in printed, "the test part is told for the chosen row alone"
    written(entries, tmp_path / "ranked", ranked=True)
    assert [row["temperature"] for row in read_csv(tmp_path / "ranked" / "table.csv")] == ["2", "3", "1"]


def chosen(entries: list[Entry], folder: Path) -> str:
    rows = write(Report(folder, "", entries), Console(quiet=True))
    (best,) = [row for row in rows if row.chosen]
    return best.at["temperature"]


def test_ties_go_to_the_lower_nll_and_fewer_seeds_cannot_win(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert chosen([entry(runs, "1", 0, 0.9, 0.5), entry(runs, "2", 0, 0.9, 0.4)], tmp_path / "tie") == "2"
    several = [entry(runs, "1", 0, 0.8), entry(runs, "1", 1, 0.8), entry(runs, "2", 0, 0.99)]
    assert chosen(several, tmp_path / "several") == "1"


def test_a_hint_loss_alone_is_chosen_by_its_smallest(tmp_path: Path) -> None:
    entries = []
    for at, loss in (("1", 3.0), ("2", 1.0), ("3", 2.0)):
        result = {"validation": {"hint_loss": loss}, "test": {}, "test_accuracy": None}
        folder = faked_run(tmp_path / "runs", "mine", config={"tested": False}, result=result)
        entries.append(Entry({"temperature": at}, folder))
    assert chosen(entries, tmp_path / "out") == "2"


@pytest.mark.parametrize("keys", [["temperature"], ["hint"], ["a", "b"], ["a", "b", "c"]])
def test_every_kind_of_plot_is_drawn(tmp_path: Path, keys: list[str]) -> None:
    values = {"temperature": ["1", "2", "8"], "hint": ["early", "late"], "a": ["x", "y"], "b": ["1", "10"], "c": ["z"]}
    grid: list[dict[str, str]] = [{}]
    for key in keys:
        grid = [{**at, key: value} for at in grid for value in values[key]]
    entries = []
    for number, at in enumerate(grid):
        for seed in (0, 1):
            accuracy = 0.5 + 0.05 * number + 0.01 * seed
            entries.append(Entry(at, faked_run(tmp_path / "runs", "mine", seed, accuracy)))
    printed = written(entries, tmp_path / "out", title="title")
    assert len(read_csv(tmp_path / "out" / "table.csv")) == len(grid) and "could not be drawn" not in printed
    width, height = png_size(tmp_path / "out" / "plot.png")
    assert width > 500 and height > 250


# ------------------------------------------------------------------------------- what goes wrong


def test_a_figure_that_cannot_be_drawn_is_a_warning_and_costs_nobody_the_table(tmp_path: Path) -> None:
    entries = two_seeds(tmp_path / "runs", "plain", "other")
    (entries[0].folder / "metrics.csv").write_text("updates,val/accuracy\n5,what\n")
    printed = written(entries, tmp_path / "out", fixed=True)
    assert "The plot could not be drawn: ValueError" in printed and "vs plain" in printed
    page = (tmp_path / "out" / "page.html").read_text()
    assert '<p class="warning">This section could not be made: ValueError' in page
    assert '<section class="headline">' in page and '<section class="lineage">' in page


def test_runs_of_an_older_version_are_named(tmp_path: Path) -> None:
    old = faked_run(tmp_path, "old")
    config = yaml.safe_load((old / "config.yaml").read_text())
    (old / "config.yaml").write_text(yaml.safe_dump({key: config[key] for key in ("stage", "seed", "parents")}))
    with pytest.raises(ValueError, match="older version"):
        rows_of([Entry({}, old)])


# -------------------------------------------------------------------------------- metrics.csv


def test_metrics_csv_holds_every_figure_as_a_finite_number(compared) -> None:
    cfg, runs_dir = compared
    expected = {
        "hint": {"train/hint_loss", "val/hint_loss", "val/r2"},
        "backprop": {"train/loss", "val/accuracy", "val/nll"},
        "kd": {"train/loss", "distill/hard", "distill/soft", "distill/lambda", "match/agreement", "match/kl"},
    }
    for run in named_runs(cfg):
        table = read_csv(folder_of(run, runs_dir) / "metrics.csv")
        assert expected[run.stage] | {"epoch", "updates", "train/lr"} <= set(table[0])
        assert all(abs(float(value)) < 1e6 for row in table for value in row.values())
        assert [int(row["updates"]) for row in table] == [18 * (i + 1) for i in range(len(table))]


def test_validation_figures_are_those_of_the_kept_epoch(compared) -> None:
    cfg, runs_dir = compared
    for run in named_runs(cfg):
        folder = folder_of(run, runs_dir)
        result = json.loads((folder / "result.json").read_text())
        row = read_csv(folder / "metrics.csv")[result["kept_epoch"] - 1]
        for name, value in result["validation"].items():
            key = next(key for key in (f"val/{name}", f"match/{name}") if key in row)
            assert float(row[key]) == value
