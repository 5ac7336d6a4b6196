"""Reproduce a table of the paper through the store: stopped and started again it goes on where it was.

python scripts/reproduce.py mnist --path DIR                     all recipes at their full epochs
python scripts/reproduce.py mnist --path DIR --budget 15         15 epochs per arm, horizons scaled to it
python scripts/reproduce.py mnist --budget modern=15,paper=4     the same by recipe (one left out is not run)
python scripts/reproduce.py cifar10 --path DIR --seeds 0,1,2 --recipes modern --set trainer=gpu
python scripts/reproduce.py mnist --arms backprop,kd,dkd         any that stage.arms takes
python scripts/reproduce.py mnist --only-table                   write the table from what is on disk

TABLE is mnist (Table 4), cifar10 (Tables 1 and 5), depth (Figure 2) or pairs (two pairs that everybody publishes).
It writes results/TABLE.csv, .md and .png, and RUNS_DIR/reports/TABLE.html with everything about these runs.
"""

import argparse
import csv
import shlex
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

At = dict[str, str]  # what a row says of itself
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import run as door  # noqa: E402
from fitnets.commands import Config, arm_names, commands_of, composed  # noqa: E402
from fitnets.config import ConfigError, check  # noqa: E402
from fitnets.config.composing import one_line_errors  # noqa: E402
from fitnets.plan import plan  # noqa: E402
from fitnets.report.page import write_page  # noqa: E402
from fitnets.report.rows import Mean, Row  # noqa: E402
from fitnets.report.table import Entry, rows_of, teachers_of  # noqa: E402
from fitnets.store import folder_of, status  # noqa: E402
from fitnets.tracking.wandb import sync_command  # noqa: E402

RECIPES = ("paper", "paper_code", "modern")
DEPTH = ("depth5_30m", "depth7_30m", "depth9_30m", "fitnet1", "depth5_107m", "depth7_107m", "depth9_107m", "fitnet2")
# table -> (experiment, student) to train, in order; and the recipes that it knows
TABLES: dict[str, tuple[list[tuple[str, str]], tuple[str, ...]]] = {
    "mnist": ([("paper/mnist", "mnist_fitnet")], RECIPES),
    "cifar10": ([(f"paper/cifar10_fitnet{i}", f"fitnet{i}") for i in (1, 2, 4, 3)], RECIPES),
    "depth": ([("paper/cifar10_fitnet1", student) for student in DEPTH], RECIPES),
    "pairs": ([("pairs/resnet20", "resnet20"), ("pairs/wrn_16_2", "wrn_16_2")], ("modern",)),
}
# Test error in per cent that the paper prints (Tables 4 and 5); FitNets 1-4 with hints only, depth not retrained.
PAPER: dict[tuple[str, ...], float] = {
    ("mnist", "teacher"): 0.55,
    ("mnist", "backprop"): 1.9,
    ("mnist", "kd"): 0.65,
    ("mnist", "fitnet"): 0.51,
    ("cifar10", "teacher"): 9.82,
    **{("cifar10", "fitnet", f"fitnet{i}"): error for i, error in enumerate((10.99, 8.94, 8.90, 8.39), start=1)},
}

NOTES = """Errors: per cent of the test part, mean and sample sd over n seeds, with one teacher. budget: epochs per arm
of the recipe's full epochs; all arms of a recipe get equal updates unless marked. paper_error: the paper's, at its own
full schedule. The weights tested are the best on validation."""


def main(arguments: list[str] | None = None) -> int:
    rows: list[Row] = []
    try:
        options = parse(arguments)
        pairs = [(*pair, recipe) for pair in options.pairs for recipe in options.budgets]
        compared = [comparison(options, experiment, student, recipe) for experiment, student, recipe in pairs]
        for config, of_arm, of_teacher in compared:
            if not options.only_table:
                door.run(config, door.Options(config.words, brief=True))
            rows += rows_on_disk(config, of_arm, of_teacher, {row.at["student"] for row in rows})
            if rows:
                write(options, rows)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if not rows:
        print(f"no finished run of {options.table} in {options.runs_dir}; run it without --only-table", file=sys.stderr)
        return 1
    print((options.out / f"{options.table}.md").read_text())
    folders = [run.path for row in rows for run in row.runs]
    out = Path(options.runs_dir) / "reports" / f"{options.table}.html"
    arms = {run.name: row.arm for row in rows for run in row.runs}
    page = write_page(folders, out, f"FitNets: {options.table}", [command(options)], fixed_rows=True, arms=arms)
    print(f"Page with everything, for a browser: {page}")
    if upload := sync_command([step.path for row in rows for run in row.runs for step in run.steps]):
        print(f"W&B runs are offline; to upload them: {upload}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(TABLES))
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated (default: 0,1,2)")
    parser.add_argument("--budget", help="epochs per arm, hint and KD together: N, or RECIPE=N,RECIPE=N")
    parser.add_argument("--teacher-budget", type=int, help="epochs of the teacher (default: its recipe's)")
    parser.add_argument("--arms", default="backprop,kd,fitnet", help="as in stage.arms (default: backprop,kd,fitnet)")
    parser.add_argument("--students", help="comma-separated (default: all of the table, in its order)")
    parser.add_argument("--recipes", help="comma-separated (default: all that the table has)")
    parser.add_argument("--path", help="folder with the data set's Parquet files (default: the Hugging Face hub)")
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    parser.add_argument("--only-table", action="store_true", help="train nothing; write what is on disk")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any key of conf/, repeatable")
    options = parser.parse_args(arguments)
    options.typed = sys.argv[1:] if arguments is None else arguments
    pairs, known = TABLES[options.table]
    options.pairs = [pair for pair in pairs if pair[1] in (options.students or pair[1]).split(",")]
    recipes = options.recipes.split(",") if options.recipes else list(known)
    if unknown := [recipe for recipe in recipes if recipe not in known]:
        raise ConfigError([f"{options.table} has no recipe {', '.join(unknown)}; choose from: {', '.join(known)}"])
    options.budgets = budgets(options.budget, recipes)
    return options


def budgets(text: str | None, recipes: list[str]) -> dict[str, int | None]:
    """Epochs per arm for each recipe that is to run; None: its full epochs."""
    if text is None:
        return dict.fromkeys(recipes)
    pairs = [word.split("=") for word in text.split(",")] if "=" in text else [[recipe, text] for recipe in recipes]
    if not all(len(pair) == 2 and pair[0] in recipes and pair[1].isdigit() and int(pair[1]) >= 2 for pair in pairs):
        raise ConfigError([f"--budget is {text}; expected N or RECIPE=N,... from 2 epochs, of {', '.join(recipes)}"])
    given = {recipe: int(epochs) for recipe, epochs in pairs}
    return {recipe: given[recipe] for recipe in recipes if recipe in given}


def comparison(options: argparse.Namespace, experiment: str, student: str, recipe: str) -> tuple[Config, At, At]:
    """The arms over seeds for one student and recipe, as a command; what its rows and the teacher's say of themselves.

    Epochs are scaled to the budget; everything else scales along.
    """
    words = [f"experiment={experiment}", f"student={student}", f"recipe={recipe}", "keep=best"]
    words += [f"runs_dir={options.runs_dir}", *([f"dataset.path={options.path}"] if options.path else []), *options.set]
    words += ["stage=compare", f"stage.arms=[{options.arms}]", f"seeds=[{options.seeds}]", "stage.min_seeds=1"]
    with one_line_errors(words):
        full = composed(words)["epochs"]
        if options.teacher_budget:
            words.append(f"epochs.teacher={options.teacher_budget}")
        if budget := options.budgets[recipe]:
            share = min(budget - 1, max(1, round(budget * full["hint"] / (full["hint"] + full["kd"]))))
            words += [f"epochs.hint={share}", f"epochs.kd={budget - share}"]
        config = composed(words)
    if problems := check(config.resolved, arm_names()):
        raise ConfigError(problems)
    epochs, of_teacher = config["epochs"], config["teacher"]["recipe"]["epochs"]
    mark = "" if config["patience"] is None else " (unequal updates: patience)"
    budget_of_arm = f"{epochs['hint'] + epochs['kd']}/{full['hint'] + full['kd']}{mark}"
    budget_of_teacher = f"{epochs['teacher'] or of_teacher}/{full['teacher'] or of_teacher}{mark}"
    arm = {"recipe": recipe, "student": student, "budget": budget_of_arm}
    return config, arm, {"recipe": "own", "student": config["teacher"]["name"], "budget": budget_of_teacher}


def rows_on_disk(config: Config, of_arm: At, of_teacher: At, known: Collection[str]) -> list[Row]:
    """The arms with their finished seeds; above them the teacher that they learned from, if it is not `known`."""
    runs_dir, order, entries = Path(config["runs_dir"]), config["stage"]["arms"], []
    for each in sorted(commands_of(config, print), key=lambda each: order.index(each.name)):
        runs = plan(each.config, each.arm)
        if all(status(run, runs_dir) == "done" for run in runs):
            entries.append(Entry({"arm": each.arm.title} | of_arm, folder_of(runs[-1], runs_dir), each.name))
    rows = rows_of(entries) if entries else []
    teachers = [] if of_teacher["student"] in known else teachers_of(rows)
    return [*(replace(row, name=row.arm, at=of_teacher) for row in teachers), *rows]


def error_of(row: Row) -> Mean:
    """Per cent of the test part that the row's runs get wrong."""
    return Mean.of([100 * (1 - run.result["test_accuracy"]) for run in row.runs])


def cells(row: Row, table: str) -> dict[str, Any]:
    """Updates and seconds are a seed's, all stages of the arm, without the teacher."""
    error, student = error_of(row), row.at["student"]
    printed = PAPER.get((table, row.name, student), PAPER.get((table, row.name)))
    return {
        "recipe": row.at["recipe"],
        "arm": row.name,
        "student": student,
        "n": error.n,
        "error_mean": f"{error.mean:.2f}",
        "error_sd": "" if error.sd is None else f"{error.sd:.2f}",
        "paper_error": "" if printed is None else f"{printed:g}",
        "updates": row.updates,
        "budget": row.at["budget"],  # epochs trained an arm, of the recipe's full epochs
        "seconds": f"{row.seconds:.0f}",
    }


def hardware_of(rows: Sequence[Row]) -> list[str]:
    found = set()
    for run in (step for row in rows for last in row.runs for step in last.steps):
        device, torch = run.result["hardware"], run.result["versions"]["torch"]
        threads = f", {device['threads']} thread(s)" if device["device"] == "cpu" else ""
        found.add(f"{device['name']}{threads}, torch {torch}, {run.config['precision']}")
    return sorted(found)


def write(options: argparse.Namespace, rows: Sequence[Row]) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    head = [f"command: {command(options)}", *(f"hardware: {each}" for each in hardware_of(rows))]
    table = [cells(row, options.table) for row in rows]
    with open(options.out / f"{options.table}.csv", "w", newline="") as file:
        file.writelines(f"# {line}\n" for line in head)
        csv.writer(file).writerows([list(table[0]), *(list(line.values()) for line in table)])
    lines = [f"# {options.table}", "", *(f"- {line}" for line in head), "", f"| {' | '.join(table[0])} |"]
    lines += ["|" + "---|" * len(table[0]), *(f"| {' | '.join(map(str, line.values()))} |" for line in table)]
    (options.out / f"{options.table}.md").write_text("\n".join([*lines, "", NOTES]) + "\n")
    plot(rows, options.out / f"{options.table}.png")


def command(options: argparse.Namespace) -> str:
    """What was typed, less what concerns this machine alone."""
    local = ("--out", "--runs-dir")
    words = [word for before, word in pairwise(["", *options.typed]) if before not in local and word not in local]
    kept = ["DIR" if word == options.path else word for word in words if word != "--only-table"]
    return shlex.join(["python", "scripts/reproduce.py", *kept])


def plot(rows: Sequence[Row], path: Path) -> None:
    """Test errors, mean and sd, a panel a recipe; the budget stands in the title, the paper's numbers do not."""
    from matplotlib.figure import Figure

    levels = [error_of(row).mean for row in rows if row.first.is_teacher]
    trained = [row for row in rows if not row.first.is_teacher]
    recipes = list(dict.fromkeys(row.at["recipe"] for row in trained))
    students = list(dict.fromkeys(row.at["student"] for row in trained))
    figure = Figure(figsize=(1.5 + 2.8 * len(recipes), 3.6), layout="constrained")
    for axes, recipe in zip(figure.subplots(1, len(recipes), squeeze=False)[0], recipes, strict=True):
        of_recipe = [row for row in trained if row.at["recipe"] == recipe]
        arms = list(dict.fromkeys(row.arm for row in of_recipe))
        for row in of_recipe:
            number, error = students.index(row.at["student"]), error_of(row)
            x = arms.index(row.arm) + 0.12 * (number - (len(students) - 1) / 2)
            label = row.at["student"] if row.arm == arms[0] else None
            axes.errorbar(x, error.mean, error.sd or 0, fmt="o", capsize=3, color=f"C{number}", label=label)
        for level in levels:
            axes.axhline(level, color="black", linestyle="--", linewidth=1)
        axes.set_xticks(range(len(arms)), [arm.replace(" then", "\nthen") for arm in arms])
        axes.set(title=f"{recipe}, {of_recipe[0].at['budget']} epochs", ylim=(0, None), xlim=(-0.5, len(arms) - 0.5))
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("test error (%), dashed: teacher")
    if len(students) > 1:
        figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
