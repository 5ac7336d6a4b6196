"""Make a table of results/ through the store: stopped and started again it goes on where it was.

python scripts/reproduce.py mnist --path DIR                     all recipes at their full epochs
python scripts/reproduce.py mnist --path DIR --budget 15         15 epochs per arm, horizons scaled to it
python scripts/reproduce.py mnist --budget modern=15,paper=4     the same by recipe (one left out is not run)
python scripts/reproduce.py cifar10 --path DIR --seeds 0,1,2 --recipes modern --set trainer=gpu
python scripts/reproduce.py mnist --arms backprop,kd,dkd         any that stage.arms takes
python scripts/reproduce.py curriculum_digits                    does the order of samples help?
python scripts/reproduce.py mnist --only-table                   write the table from what is on disk

TABLE is a file in scripts/tables/: mnist (the paper's Table 4), cifar10 (Tables 1 and 5), depth (Figure 2), pairs (two
that everybody publishes), curriculum_digits, curriculum_mnist. Each is a list of commands, by the words that tell them
apart. Written are results/TABLE.csv, .md and .png, and RUNS_DIR/reports/TABLE.html with everything about these runs.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

At = dict[str, str]  # what a row says of itself
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import run as door  # noqa: E402
from fitnets.commands import Config, checked, commands_of, exit_code, typed_again  # noqa: E402
from fitnets.config import ConfigError  # noqa: E402
from fitnets.curriculum.agreement import agreements, markdown  # noqa: E402
from fitnets.plan import plan  # noqa: E402
from fitnets.report.charts import ACROSS, SERIES, Frame, Line, Style, png, ranked  # noqa: E402
from fitnets.report.columns import SECONDS, UPDATES, Column, N, percent, test_accuracy, versus  # noqa: E402
from fitnets.report.folders import with_ancestors  # noqa: E402
from fitnets.report.page import made_with, write_page  # noqa: E402
from fitnets.report.plots import mean_line  # noqa: E402
from fitnets.report.rows import Mean, Row, baseline_of  # noqa: E402
from fitnets.report.table import Entry, Table, rows_of, teachers_of, where_diverged  # noqa: E402
from fitnets.report.terminal import trust_text  # noqa: E402
from fitnets.store import folder_of, status  # noqa: E402
from fitnets.tracking.wandb import sync_command  # noqa: E402

TABLES = {file.stem: file for file in sorted((ROOT / "scripts" / "tables").glob("*.yaml"))}
NOTES = {
    "errors": """Errors: per cent of the test part, mean and sample sd over n seeds, with one teacher. budget: epochs
per arm of the recipe's full epochs; all arms of a recipe get equal updates unless marked. paper error: the paper's, at
its own full schedule. The weights tested are the best on validation.""",
    "orders": """± is the sample sd over seeds; differences are paired by seed, with a 95 % t-interval. Equal updates
and learning rate schedules in each condition; one split, one draw of wrong labels; test and validation labels are
right. Validation: the mean over a training's epochs, and its best epoch.""",
}


@dataclass(frozen=True)
class Condition:
    """The arms of one command: what it means, what its rows say of themselves, and those that are on disk."""

    config: Config
    at: At
    rows: list[Row] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> int:
    found: list[Condition] = []
    try:
        options = parse(arguments)
        for condition in conditions(options):
            found.append(made(options, condition, found))
            if not found[-1].rows:
                print(f"not finished, left out: {', '.join(condition.at.values())}", file=sys.stderr)
            if any(each.rows for each in found):
                write(options, found)
        rows = [row for condition in found for row in condition.rows]
        if rows and not options.no_scores:
            with open(options.out / f"{options.table}.md", "a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in correlations(options))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if not rows:
        print(f"no finished run of {options.table} in {options.runs_dir}; run it without --only-table", file=sys.stderr)
        return 1
    print((options.out / f"{options.table}.md").read_text(encoding="utf-8"))
    folders = [run.path for row in rows for run in row.runs]
    page = Path(options.runs_dir) / "reports" / f"{options.table}.html"
    arms = {run.name: row.arm for row in rows for run in row.runs}
    write_page(folders, page, f"FitNets: {options.table}", [command(options)], fixed_rows=True, arms=arms)
    print(f"Page with everything, for a browser: {page}")
    if upload := sync_command([step.path for row in rows for run in row.runs for step in run.steps]):
        print(f"W&B runs are offline; to upload them: {upload}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(TABLES))
    parser.add_argument("--seeds", help="comma-separated (default: the table's)")
    parser.add_argument("--budget", help="epochs per arm, hint and KD together: N, or RECIPE=N,RECIPE=N")
    parser.add_argument("--teacher-budget", type=int, help="epochs of the teacher (default: its recipe's)")
    parser.add_argument("--arms", help="as in stage.arms (default: the table's)")
    parser.add_argument("--students", help="comma-separated (default: all of the table, in its order)")
    parser.add_argument("--recipes", help="comma-separated (default: all that the table has)")
    parser.add_argument("--no-scores", action="store_true", help="leave out the rank correlations between scores")
    parser.add_argument("--path", help="folder with the data set's Parquet files (default: the Hugging Face hub)")
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    parser.add_argument("--only-table", action="store_true", help="train nothing; write what is on disk")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any key of conf/, repeatable")
    options = parser.parse_args(arguments)
    options.typed = sys.argv[1:] if arguments is None else arguments
    options.file = yaml.safe_load(TABLES[options.table].read_text(encoding="utf-8"))
    axes = options.file["axes"]
    for axis, given in (("student", options.students), ("recipe", options.recipes)):
        names, known = given.split(",") if given else [], axes.get(axis, {})
        if unknown := [name for name in names if name not in known]:
            choices = ", ".join(known) or "none"
            raise ConfigError([f"{options.table} has no {axis} {', '.join(unknown)}; choose from: {choices}"])
        axes |= {axis: {name: known[name] for name in names}} if names else {}
    options.epochs = budgets(options.budget, list(axes.get("recipe", {})))
    if options.epochs:
        axes["recipe"] = {name: words for name, words in axes["recipe"].items() if name in options.epochs}
    options.shared = [f"runs_dir={options.runs_dir}", *([f"dataset.path={options.path}"] if options.path else [])]
    options.shared += options.set
    return options


def budgets(text: str | None, recipes: list[str]) -> dict[str, int]:
    """Epochs per arm for each recipe that is to run; {}: each its full epochs."""
    if text is None:
        return {}
    pairs = [word.split("=") for word in text.split(",")] if "=" in text else [[recipe, text] for recipe in recipes]
    fine = [len(pair) == 2 and pair[0] in recipes and pair[1].isdigit() and int(pair[1]) >= 2 for pair in pairs]
    if not all(fine) or not pairs:
        known = ", ".join(recipes) or "a table with recipes"
        raise ConfigError([f"--budget is {text}; expected N or RECIPE=N,... from 2 epochs, of {known}"])
    return {recipe: int(epochs) for recipe, epochs in pairs}


def conditions(options: argparse.Namespace) -> list[Condition]:
    """Every combination of the table's axes, and the single ones that it names."""
    axes = options.file["axes"]
    wanted = [dict(zip(axes, names, strict=True)) for names in product(*axes.values())]
    also = options.file.get("also", [])
    found = []
    for at, more in [*((at, []) for at in wanted), *((each["at"], each["words"]) for each in also)]:
        own = [word for axis, name in at.items() for word in axes[axis].get(name, [])]
        words = [*options.file.get("words", []), *own, *more, *options.shared]
        words.append(f"seeds=[{options.seeds or ','.join(map(str, options.file['seeds']))}]")
        if arms := f"[{options.arms}]" if options.arms else options.file.get("arms"):
            words.append(f"stage.arms={arms}")
        found.append(budgeted(options, words, at))
    return found


def budgeted(options: argparse.Namespace, words: list[str], at: At) -> Condition:
    """With the epochs that were asked for, everything else scaled along, and what share of the full ones they are."""
    config = checked(words)
    if "recipe" not in at:
        return Condition(config, at)
    full, more = config["epochs"], [f"epochs.teacher={options.teacher_budget}"] if options.teacher_budget else []
    if budget := options.epochs.get(at["recipe"]):
        share = min(budget - 1, max(1, round(budget * full["hint"] / (full["hint"] + full["kd"]))))
        more += [f"epochs.hint={share}", f"epochs.kd={budget - share}"]
    config = checked([*words, *more]) if more else config
    mark = "" if config["patience"] is None else " (unequal updates: patience)"
    epochs = config["epochs"]["hint"] + config["epochs"]["kd"]
    return Condition(config, at | {"budget": f"{epochs}/{full['hint'] + full['kd']}{mark}"})


def made(options: argparse.Namespace, condition: Condition, before: Sequence[Condition]) -> Condition:
    """With its rows: each arm's finished seeds, and above them a teacher that no condition before has shown."""
    config = condition.config
    if not options.only_table:
        print(f"\n$ {shlex.join(['python', 'run.py', *config.words])}", flush=True)
        door.run(config, door.Options(config.words, brief=True))
    runs_dir, entries = Path(config["runs_dir"]), []
    for each in commands_of(config, print):
        runs = plan(each.config, each.arm)
        if all(status(run, runs_dir) == "done" for run in runs):
            entries.append(Entry(each.at, folder_of(runs[-1], runs_dir), each.name))
    rows = rows_of(entries) if entries else []
    known = {row.first.name for each in before for row in each.rows}
    teachers = [replace(row, name=row.arm) for row in teachers_of(rows) if row.first.name not in known]
    own, mark = config["teacher"]["recipe"]["epochs"], condition.at.get("budget", "").partition(" ")[2]
    budget = f"{config['epochs']['teacher'] or own}/{own} {mark}".strip()
    of_teacher = {"recipe": "own", "student": config["teacher"]["name"], "budget": budget}
    for row in [*teachers, *rows]:
        at = {axis: of_teacher.get(axis, "") for axis in condition.at} if row in teachers else condition.at
        row.at = at | {"arm": row.arm}
    order = config["stage"].get("arms", [row.name for row in rows])
    return replace(condition, rows=[*teachers, *sorted(rows, key=lambda row: order.index(row.name))])


def error_of(row: Row) -> Mean:
    """Per cent of the test part that the row's runs get wrong."""
    return Mean.of([100 * (1 - run.result["test_accuracy"]) for run in row.runs])


def columns(options: argparse.Namespace, found: Sequence[Condition]) -> list[Column]:
    """Updates and seconds are a seed's, all stages of the arm, without the teacher."""
    printed = options.file.get("paper_error", {})

    def paper_error(row: Row) -> float | None:
        of_arm = printed.get(row.name)
        return of_arm.get(row.at["student"]) if isinstance(of_arm, dict) else of_arm

    def rows_with(row: Row) -> list[Row]:
        return next(condition.rows for condition in found if row in condition.rows)

    def in_random_order(row: Row) -> Row | None:
        return next((other for other in rows_with(row) if other.order == "random"), None)

    def of_epochs(figure: Callable[[list[float]], float]) -> Callable[[Row], Any]:
        return lambda row: row.over(lambda run: figure([epoch["val/accuracy"] for epoch in run.metrics]))

    if options.file["columns"] == "errors":
        error = Column("error %", error_of, Mean.text, ("error_mean", "error_sd"))
        return [N, error, Column("paper error %", paper_error, "{:g}".format, ("paper_error",)), UPDATES, SECONDS]
    return [
        test_accuracy("accuracy_mean", "accuracy_sd"),
        N,
        versus("vs i.i.d.", lambda row: baseline_of(rows_with(row)), "vs_iid", "vs_iid_ci95"),
        versus("vs random order", in_random_order, "vs_random", "vs_random_ci95"),
        Column("validation, mean", of_epochs(mean), percent, ("validation_mean", "validation_mean_sd")),
        Column("best epoch", of_epochs(max), percent, ("validation_best", "validation_best_sd")),
        UPDATES,
    ]


def write(options: argparse.Namespace, found: Sequence[Condition]) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    out, rows = options.out / options.table, [row for condition in found for row in condition.rows]
    machines = made_with(with_ancestors(run for row in rows for run in row.runs))
    notes = f"{NOTES[options.file['columns']]}\n\n{machines}"
    table = Table(options.table, notes, [*columns(options, found), *where_diverged(rows)], rows)
    out.with_suffix(".md").write_text(table.markdown(command(options)), encoding="utf-8")
    table.write_csv(out.with_suffix(".csv"), [f"command: {command(options)}", machines])
    plot(options, rows, out.with_suffix(".png"))


def command(options: argparse.Namespace) -> str:
    """What was typed, less what concerns this machine alone."""
    local = ("--out", "--runs-dir")
    words = [word for before, word in pairwise(["", *options.typed]) if before not in local and word not in local]
    kept = ["DIR" if word == options.path else word for word in words if word != "--only-table"]
    return shlex.join(["python", "scripts/reproduce.py", *kept])


def plot(options: argparse.Namespace, rows: Sequence[Row], path: Path) -> None:
    """Mean and sd of the test part, a panel for all students of a condition; the paper's numbers do not stand in it."""
    what, scale = ("error", 1) if options.file["columns"] == "errors" else ("accuracy", 100)
    levels = [error_of(row).mean for row in rows if row.first.is_teacher]
    level = (levels[0], "teacher") if len(levels) == 1 else None
    panels, several = dict[str, list[Line]](), len(options.file["axes"].get("student", {})) > 1
    for row in rows:
        if not row.first.is_teacher:
            said = [f"{axis} {name}" for axis, name in row.at.items() if axis not in ("arm", "student")]
            title = "\n".join(said).replace("_", " ")
            label = f"{row.at['student']}: {row.arm}" if several else row.arm
            lines = panels.setdefault(title, [])
            style = Style(SERIES[len(lines) % len(SERIES)])
            figure = error_of(row) if what == "error" else row.test("accuracy")
            lines.append(mean_line(label, style, [0], [figure], scale))
    draws = [ranked(lines, Frame(f"test {what} (%)", "", level, title=title)) for title, lines in panels.items()]
    down, tallest = -(-len(draws) // ACROSS), max(map(len, panels.values()))
    png(path, draws, options.table, (3.2 * min(ACROSS, len(draws)) + 0.6, down * (1.6 + 0.3 * tallest) + 0.6))


def correlations(options: argparse.Namespace) -> list[str]:
    """Markdown tables of Spearman's rank correlations, and how far each score tells samples apart."""
    lines: list[str] = []
    for share, noise in options.file["axes"].get("wrong_labels", {}).items():
        folders = {}
        for name, own in options.file.get("correlated", {}).items():
            typed = ["stage=score", "curriculum=easy_to_hard", f"curriculum/score={name}"]
            arms = [word for word in options.file["words"] if not word.startswith("experiment=")]
            config = checked([*typed, *noise, *own, *arms, *options.shared])
            if not options.only_table:
                door.run(config, door.Options(config.words, brief=True))
            (run,), runs_dir = plan(config), Path(config["runs_dir"])
            if status(run, runs_dir) == "done":
                folders[name] = folder_of(run, runs_dir)
        if folders:
            title = f"Rank correlations (Spearman) between scores, {share} wrong labels:"
            lines += ["", title, "", *markdown(folders), ""]
        for name, folder in folders.items():
            score = json.loads((folder / "result.json").read_text(encoding="utf-8"))["score"]
            if text := trust_text(score | {"agreement": agreements(folder, name)}):
                lines.append(f"- {name}: {text.removeprefix('; ')}")
    return lines


if __name__ == "__main__":
    sys.exit(exit_code(main, typed_again("scripts/reproduce.py")))
