"""Does the order of samples help? All four controls, at several budgets, with right and with wrong labels, over seeds.

python scripts/curriculum.py digits                      10 seeds, all updates and 10 % of them
python scripts/curriculum.py mnist --path DIR            3 seeds, 5 epochs, 10 % and 1 % of their updates
python scripts/curriculum.py digits --only-table         write the tables from what is on disk

Each condition is a `python run.py experiment=curriculum/controls ...`, resumable; writes results/curriculum_NAME.md
(with rank correlations between scores), .csv and .png. The learning rate schedule spans the updates of a budget.
"""

import argparse
import csv
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from safetensors.numpy import load_file  # noqa: E402

import run as door  # noqa: E402
from fitnets.commands import commands_of, composed  # noqa: E402
from fitnets.config import ConfigError  # noqa: E402
from fitnets.config.composing import one_line_errors  # noqa: E402
from fitnets.curriculum.agreement import spearman  # noqa: E402
from fitnets.plan import plan  # noqa: E402
from fitnets.report.charts import SERIES  # noqa: E402
from fitnets.report.columns import Column, N, percent, test_accuracy  # noqa: E402
from fitnets.report.rows import Row, baseline_of, difference, difference_text  # noqa: E402
from fitnets.report.table import Entry, rows_of  # noqa: E402
from fitnets.report.terminal import trust_text  # noqa: E402
from fitnets.store import folder_of, status, with_parents  # noqa: E402

NOISES = (0, 0.4)
ACROSS = 5  # panels of the plot
CONTROLS = "experiment=curriculum/controls"
NEVER_THE_HARDEST = ["curriculum/pacing=step", "curriculum.pacing.start=0.55", "curriculum.pacing.full_at=2"]
SCORES = ["teacher_confidence", "teacher_margin", "teacher_loss", "teacher_entropy", "svm_margin", "svm_margin_teacher"]
SCORES += ["self_taught", "learned_epoch", "c_score", "hint_error"]
MNIST = ["dataset=mnist", "student=thin_relu", "student.net.blocks=[[8],[16],[32]]"]
MNIST += ["teacher.net.widths=[16,32]", "epochs.teacher=3"]  # of scores that need one
BALANCED = ["curriculum.balanced=true"]
TABLES: dict[str, dict[str, Any]] = {
    "digits": {
        "words": [],
        "seeds": 10,
        "budgets": {"all": [], "10 %": ["epochs.hint=3", "epochs.kd=6", "updates_per_epoch=9"]},
        "scores": ["svm_margin", "c_score"],
        "also": [
            ("c_score", 0.4, "all", "never the last 45 %", NEVER_THE_HARDEST),
            ("c_score", 0.4, "10 %", "linear, balanced", BALANCED),
        ],
        "compared": dict.fromkeys(SCORES, ()),
    },
    "mnist": {
        "words": MNIST,
        "seeds": 3,
        "budgets": {
            "all": ["epochs.hint=2", "epochs.kd=3"],
            "10 %": ["epochs.hint=2", "epochs.kd=3", "updates_per_epoch=78"],
            "1 %": ["epochs.hint=1", "epochs.kd=2", "updates_per_epoch=13"],
        },
        "scores": ["svm_margin"],
        "also": [
            ("svm_margin", 0.4, "all", "never the last 45 %", NEVER_THE_HARDEST),
            ("svm_margin", 0.4, "10 %", "never the last 45 %", NEVER_THE_HARDEST),
            ("svm_margin", 0.4, "10 %", "linear, balanced", BALANCED),
        ],
        "compared": dict.fromkeys(SCORES, ())
        | dict.fromkeys(("self_taught", "learned_epoch"), ("curriculum.score.epochs=3",))
        | {"c_score": ("curriculum.score.epochs=3", "curriculum.score.repeats=1")}
        | {"hint_error": ("curriculum.score.epochs=1",)},
    },
}

NOTES = """± is the sample sd over seeds; differences are paired by seed, with a 95 % t-interval. Equal updates and
learning rate schedules in each condition; one split, one draw of wrong labels; test and validation labels are right.
Validation: the mean over a training's epochs, and its best epoch."""


@dataclass(frozen=True)
class Condition:
    """The orders of samples under one condition: what it is, in the order of the first columns, and a row an order."""

    at: dict[str, str]
    rows: list[Row]

    def columns(self) -> list[Column]:
        in_random = next(row for row in self.rows if row.order == "random")
        return [
            test_accuracy("accuracy_mean", "accuracy_sd"),
            N,
            versus("vs i.i.d.", "vs_iid", baseline_of(self.rows)),
            versus("vs random order", "vs_random", in_random),
            of_epochs("validation, mean", "validation_mean", mean),
            of_epochs("best epoch", "validation_best", max),
        ]


def versus(title: str, name: str, other: Row | None) -> Column:
    """The difference to another row, paired by seed."""
    return Column(title, lambda row: difference(row, other), difference_text, (name, f"{name}_ci95"))


def of_epochs(title: str, name: str, figure: Callable[[list[float]], float]) -> Column:
    """A figure of a training's validation accuracies; their mean says how soon it is good."""

    def of_row(row: Row) -> Any:
        return row.over(lambda run: figure([epoch["val/accuracy"] for epoch in run.metrics]))

    return Column(title, of_row, percent, (name,))


def entries_of(words: list[str], only_table: bool) -> list[Entry]:
    """What the commands of these words end in, trained first unless `only_table`; [] where not all is on disk."""
    with one_line_errors(words):
        config = composed(words)
    if not only_table:
        print(f"\n$ {shlex.join(['python', 'run.py', *words])}", flush=True)
        door.run(config, door.Options(words))
    runs_dir = Path(config["runs_dir"])
    plans = [(each, plan(each.config, each.arm)) for each in commands_of(config, print)]
    if any(status(run, runs_dir) != "done" for run in with_parents(run for _, runs in plans for run in runs)):
        return []
    return [Entry(each.at, folder_of(last, runs_dir), each.name) for each, (*_, last) in plans]


def conditions(table: dict[str, Any], words: list[str], only_table: bool) -> list[Condition]:
    """Every condition that is on disk, trained first unless `only_table`."""
    wanted = [(*each, "linear", ()) for each in product(table["scores"], NOISES, table["budgets"])]
    found = []
    for score, noise, budget, pacing, more in [*wanted, *table["also"]]:
        typed = [CONTROLS, f"curriculum/score={score}", f"dataset.label_noise={noise}", *table["budgets"][budget]]
        entries = entries_of([*typed, *more, *words], only_table)
        if not entries:
            print(f"not finished, left out: {score}, {noise:.0%} wrong labels, {budget}, {pacing}", file=sys.stderr)
            continue
        rows = rows_of(entries)
        updates = f"{rows[0].updates:,} " + ("updates" if budget == "all" else f"({budget})")
        at = {"score": score, "pacing": pacing, "label_noise": f"{noise:.0%}", "updates": updates}
        found.append(Condition(at, rows))
    return found


def score_folders(table: dict[str, Any], words: list[str], noise: float, only_table: bool) -> dict[str, Path]:
    """The folders of all compared scores, by name."""
    found = {}
    for name, own in table["compared"].items():
        typed = ["stage=score", "curriculum=easy_to_hard", f"curriculum/score={name}", f"dataset.label_noise={noise}"]
        for entry in entries_of([*typed, *own, *words], only_table):
            found[name] = entry.folder
    return found


def correlations(folders: dict[str, Path]) -> list[str]:
    """A Markdown table of Spearman's rank correlations, and how far each score tells samples apart."""
    if not folders:
        return []
    difficulty = {name: load_file(folder / "scores.safetensors")["difficulty"] for name, folder in folders.items()}
    lines = ["| | " + " | ".join(folders) + " |", "|---|" + "---:|" * len(folders)]
    trusted = []
    for name, folder in folders.items():
        to_others = {other: spearman(difficulty[name], difficulty[other]) for other in folders}
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in to_others.values()) + " |")
        score = json.loads((folder / "result.json").read_text())["score"]
        if text := trust_text(score | {"agreement": to_others}):
            trusted.append(f"- {name}: {text.removeprefix('; ')}")
    return [*lines, "", *trusted]


def markdown(typed: list[str], found: list[Condition]) -> list[str]:
    titles = [column.title for column in found[0].columns()]
    lines = [f"`{shlex.join(['python', 'scripts/curriculum.py', *typed])}`", ""]
    lines += [f"| score | pacing | wrong labels | updates | order | {' | '.join(titles)} |"]
    lines += ["|---|---|---:|---|---|" + "---:|" * len(titles)]
    for condition in found:
        for row in condition.rows:
            cells = [*condition.at.values(), row.arm, *(column.cell(row) for column in condition.columns())]
            lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", *NOTES.splitlines()]


def csv_rows(found: list[Condition]) -> list[dict[str, Any]]:
    """A row for each order in each condition; accuracies are fractions."""
    table = []
    for condition in found:
        for row in condition.rows:
            line: dict[str, Any] = condition.at | {"order": row.name, "n": len(row.runs)}
            for column in condition.columns():
                line |= dict(zip(column.names, column.numbers(row), strict=False))  # a mean's sd is not always named
            table.append(line)
    return table


def plot(found: Sequence[Condition], title: str, path: Path) -> None:
    """Test accuracy of the orders in each condition: mean, and sd over seeds."""
    from matplotlib.figure import Figure

    across = min(ACROSS, max(3, len(found)))
    down = -(-len(found) // across)
    figure = Figure(figsize=(2.6 * across, 3.4 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(found) :]:
        axes.set_visible(False)
    for axes, condition in zip(grid.flat, found, strict=False):
        for x, row in enumerate(condition.rows):
            accuracy: Any = row.test("accuracy")
            axes.errorbar(x, 100 * accuracy.mean, 100 * (accuracy.sd or 0), fmt="o", capsize=4, color=SERIES[x])
        names = [row.arm for row in condition.rows]
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=8)
        score, pacing, noise, updates = condition.at.values()
        axes.set_title("\n".join([updates, f"{noise} wrong labels", score, pacing]), fontsize=9)
        axes.margins(x=0.2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    for axes in grid[:, 0]:
        axes.set_ylabel("test accuracy (%)")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(TABLES))
    parser.add_argument("--path", help="folder with the data set's Parquet files (default: the Hugging Face hub)")
    parser.add_argument("--seeds", type=int, help="how many, from 2 (default: 10 for digits, 3 for mnist)")
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    parser.add_argument("--only-table", action="store_true", help="train nothing; write what is on disk")
    parser.add_argument("--no-scores", action="store_true", help="leave out the rank correlations between scores")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any key of conf/, repeatable")
    try:
        return write(parser.parse_args(arguments))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2


def write(given: argparse.Namespace) -> int:
    table = TABLES[given.table]
    shared = [*table["words"], f"runs_dir={given.runs_dir}", *([f"dataset.path={given.path}"] if given.path else [])]
    shared += given.set
    seeds = given.seeds or table["seeds"]
    found = conditions(table, [*shared, f"seeds=[{','.join(map(str, range(seeds)))}]"], given.only_table)
    if not found:
        nothing = f"no finished condition of {given.table} in {given.runs_dir}"
        print(f"{nothing}; run it without --only-table", file=sys.stderr)
        return 1
    typed = [given.table, *(["--path", "DIR"] if given.path else [])]
    typed += ["--seeds", str(given.seeds)] if given.seeds else []
    typed += ["--no-scores"] if given.no_scores else []
    lines = markdown([*typed, *(w for word in given.set for w in ("--set", word))], found)
    for noise in NOISES if not given.no_scores else ():
        lines += ["", f"Rank correlations (Spearman) between scores, {noise:.0%} wrong labels:", ""]
        lines += correlations(score_folders(table, shared, noise, given.only_table))
    given.out.mkdir(parents=True, exist_ok=True)
    name = f"{given.out}/curriculum_{given.table}"
    Path(f"{name}.md").write_text("\n".join(lines) + "\n")
    with open(f"{name}.csv", "w", newline="") as file:
        table_rows = csv_rows(found)
        writer = csv.DictWriter(file, list(table_rows[0]))
        writer.writeheader()
        writer.writerows(table_rows)
    plot(found, f"curriculum/controls on {given.table}, {seeds} seeds; mean ± sample sd", Path(f"{name}.png"))
    print(f"\nwrote {name}.md, .csv and .png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
