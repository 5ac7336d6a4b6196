"""Does the order of samples help? All four controls, at several budgets, with right and with wrong labels, over seeds.

python scripts/curriculum.py digits                      10 seeds, all updates and 10 % of them
python scripts/curriculum.py mnist --path DIR            3 seeds, 5 epochs, 10 % and 1 % of their updates
python scripts/curriculum.py digits --only-table         write the tables from what is on disk

Each condition is a `python run.py experiment=curriculum/controls ...`, resumable; writes results/curriculum_NAME.md
(with rank correlations between scores), .csv and .png. The learning rate schedule spans the updates of a budget.
"""

import argparse
import csv
import shlex
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

import run as door  # noqa: E402
from fitnets.report.agreement import spearman  # noqa: E402
from fitnets.report.arms import ARM_NAMES, COLORS, paired_difference, versus  # noqa: E402
from fitnets.report.compare import Row, rows  # noqa: E402
from fitnets.report.folders import metrics_in  # noqa: E402
from fitnets.report.grouping import Figure  # noqa: E402
from fitnets.report.terminal import trust  # noqa: E402
from fitnets.runs import ORDERS, Run, folder_of, plan, read_result, with_parents  # noqa: E402

NOISES = (0, 0.4)
COLUMNS = 5  # of the plot
CONTROLS = "experiment=curriculum/controls"
NEVER_THE_HARDEST = ["curriculum/pacing=step", "curriculum.pacing.start=0.55", "curriculum.pacing.full_at=2"]
SCORES = ["teacher_confidence", "teacher_margin", "teacher_loss", "teacher_entropy", "svm_margin", "svm_margin_teacher"]
SCORES += ["self_taught", "learned_epoch", "c_score", "hint_error"]
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
        "words": [
            *("dataset=mnist", "student=thin_relu", "student.net.blocks=[[8],[16],[32]]"),
            *("teacher.net.widths=[16,32]", "epochs.teacher=3"),  # of scores that need one
        ],
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


def composed(*words: str) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(words)), resolve=True)  # type: ignore[return-value]


def trained(words: list[str], only_table: bool) -> tuple[dict[str, Any], dict[str, dict[str, Any]] | None]:
    """The config that the words make and its results by fingerprint; None where not all is on disk."""
    cfg = composed(*words)
    if not only_table:
        print(f"\n$ {shlex.join(['python', 'run.py', *words])}", flush=True)
        door.run(cfg, words)
    found = {r.fingerprint: read_result(r, Path(cfg["runs_dir"])) for r in with_parents(plan(cfg))}
    return cfg, None if None in found.values() else found  # type: ignore[return-value]


class Condition(NamedTuple):
    score: str
    pacing: str
    noise: str  # share of wrong labels
    updates: str
    rows: list[Row]  # by order
    to_random: dict[str, tuple[float, float]]  # by order: paired difference to the random order, half its 95 % interval
    validation: dict[str, list[tuple[float, float]]]  # by order and seed: accuracy, mean over epochs, and best epoch


def conditions(table: dict[str, Any], words: list[str], only_table: bool) -> list[Condition]:
    """Every condition that is on disk, trained first unless `only_table`."""
    wanted = [
        (score, noise, budget, "linear", ())
        for score in table["scores"]
        for noise in NOISES
        for budget in table["budgets"]
    ]
    found = []
    for score, noise, budget, pacing, more in [*wanted, *table["also"]]:
        typed = [CONTROLS, f"curriculum/score={score}", f"dataset.label_noise={noise}", *table["budgets"][budget]]
        cfg, results = trained([*typed, *more, *words], only_table)
        if results is None:
            print(f"not finished, left out: {score}, {noise:.0%} wrong labels, {budget}, {pacing}", file=sys.stderr)
            continue
        runs, runs_dir = plan(cfg), Path(cfg["runs_dir"])
        accuracy: dict[str, dict[int, float]] = {order: {} for order in ORDERS}
        validation: dict[str, list[tuple[float, float]]] = {order: [] for order in ORDERS}
        for r in runs:
            accuracy[r.column][r.seed] = results[r.fingerprint]["test_accuracy"]
            validation[r.column].append(validated(r, runs_dir))
        to_random = {o: paired_difference(accuracy[o], accuracy["random"]) for o in ORDERS if o != "random"}
        table_rows = rows(runs, results, list(ORDERS))
        updates = f"{table_rows[0].updates:,} " + ("updates" if budget == "all" else f"({budget})")
        found.append(Condition(score, pacing, f"{noise:.0%}", updates, table_rows, to_random, validation))
    return found


def validated(run: Run, runs_dir: Path) -> tuple[float, float]:
    """Validation accuracy of a training: the mean over its epochs (how soon it is good), and its best epoch."""
    accuracies = [row["val/accuracy"] for row in metrics_in(folder_of(run, runs_dir))]
    return mean(accuracies), max(accuracies)


def score_runs(table: dict[str, Any], words: list[str], noise: float, only_table: bool) -> dict[str, Path]:
    """The folders of all compared scores, by name."""
    found = {}
    for name, own in table["compared"].items():
        typed = ["stage=score", "curriculum=easy_to_hard", f"curriculum/score={name}", f"dataset.label_noise={noise}"]
        cfg, results = trained([*typed, *own, *words], only_table)
        if results is not None:
            found[name] = folder_of(plan(cfg)[-1], Path(cfg["runs_dir"]))
    return found


def correlations(folders: dict[str, Path]) -> list[str]:
    """A Markdown table of Spearman's rank correlations, and how far each score tells samples apart."""
    import json

    if not folders:
        return []
    difficulty = {name: load_file(folder / "scores.safetensors")["difficulty"] for name, folder in folders.items()}
    names = list(folders)
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for name in names:
        lines.append(
            f"| {name} | " + " | ".join(f"{spearman(difficulty[name], difficulty[o]):.2f}" for o in names) + " |"
        )
    results = {name: json.loads((folders[name] / "result.json").read_text()) for name in names}
    agrees = {name: spearman(difficulty[name], difficulty["c_score"]) for name in names if "c_score" in difficulty}
    told = {name: trust(results[name], agrees.get(name)).removeprefix("; ") for name in names}
    return [*lines, "", *(f"- {name}: {text}" for name, text in told.items() if text)]


HEADER = "score | pacing | wrong labels | updates | order | test accuracy % | n | vs i.i.d. | vs random order"
HEADER += " | validation, mean | best epoch"


def markdown(typed: list[str], found: list[Condition]) -> list[str]:
    lines = [f"`{shlex.join(['python', 'scripts/curriculum.py', *typed])}`", ""]
    lines += [f"| {HEADER} |", "|---|---|---:|---|---|" + "---:|" * (HEADER.count("|") - 4)]
    for condition in found:
        for row in condition.rows:
            cells = [condition.score, condition.pacing, condition.noise, condition.updates, ARM_NAMES[row.arm]]
            cells += [Figure(row.accuracy_mean, row.accuracy_sd, row.n).told(100), str(row.n)]
            cells += [versus(row.difference, row.difference_ci)]
            cells += [versus(*condition.to_random.get(row.arm, (None, None)))]
            validation = zip(*condition.validation[row.arm], strict=True)
            cells += [Figure(mean(of), stdev(of), row.n).told(100) for of in validation]
            lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", *NOTES.splitlines()]


def csv_rows(found: list[Condition]) -> list[dict[str, Any]]:
    """A row for each order in each condition; accuracies are fractions."""
    table = []
    for condition in found:
        for row in condition.rows:
            whole, best = zip(*condition.validation[row.arm], strict=True)
            to_random = condition.to_random.get(row.arm, (None, None))
            table.append(
                {
                    "score": condition.score,
                    "pacing": condition.pacing,
                    "label_noise": condition.noise,
                    "updates": condition.updates,
                    "order": row.arm,
                    "n": row.n,
                    "accuracy_mean": row.accuracy_mean,
                    "accuracy_sd": row.accuracy_sd,
                    "vs_iid": row.difference,
                    "vs_iid_ci95": row.difference_ci,
                    "vs_random": to_random[0],
                    "vs_random_ci95": to_random[1],
                    "validation_mean": mean(whole),
                    "validation_best": mean(best),
                }
            )
    return table


def plot(found: list[Condition], title: str, path: Path) -> None:
    """Test accuracy of the four orders in each condition: mean, and sd over seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(COLUMNS, max(3, len(found)))
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.4 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(found) :]:
        axes.set_visible(False)
    for axes, condition in zip(grid.flat, found, strict=False):
        for x, row in enumerate(condition.rows):
            sd = 100 * (row.accuracy_sd or 0)
            axes.errorbar(x, 100 * row.accuracy_mean, sd, fmt="o", capsize=4, color=COLORS[row.arm])
        axes.set_xticks(range(len(ORDERS)), [ARM_NAMES[order] for order in ORDERS], rotation=35, ha="right", fontsize=8)
        told = (condition.updates, f"{condition.noise} wrong labels", condition.score, condition.pacing)
        axes.set_title("\n".join(told), fontsize=9)
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
    given = parser.parse_args(arguments)
    table = TABLES[given.table]
    shared = [*table["words"], f"runs_dir={given.runs_dir}", *([f"dataset.path={given.path}"] if given.path else [])]
    shared += given.set
    seeds = list(range(given.seeds or table["seeds"]))
    found = conditions(table, [*shared, f"seeds={seeds}".replace(" ", "")], given.only_table)
    if not found:
        print(
            f"no finished condition of {given.table} in {given.runs_dir}; run it without --only-table", file=sys.stderr
        )
        return 1
    title = f"curriculum/controls on {given.table}, {len(seeds)} seeds; mean ± sample sd"
    typed = [given.table, *(["--path", "DIR"] if given.path else [])]
    typed += ["--seeds", str(given.seeds)] if given.seeds else []
    typed += ["--no-scores"] if given.no_scores else []
    lines = markdown([*typed, *(w for word in given.set for w in ("--set", word))], found)
    for noise in NOISES if not given.no_scores else ():
        folders = score_runs(table, shared, noise, given.only_table)
        lines += [
            "",
            f"Rank correlations (Spearman) between scores, {noise:.0%} wrong labels:",
            "",
            *correlations(folders),
        ]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"curriculum_{given.table}.md").write_text("\n".join(lines) + "\n")
    with open(given.out / f"curriculum_{given.table}.csv", "w", newline="") as file:
        table_rows = csv_rows(found)
        writer = csv.DictWriter(file, list(table_rows[0]))
        writer.writeheader()
        writer.writerows(table_rows)
    plot(found, title, given.out / f"curriculum_{given.table}.png")
    Console(highlight=False, soft_wrap=True).print(f"\nwrote {given.out}/curriculum_{given.table}.md, .csv and .png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
