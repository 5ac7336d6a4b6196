"""Reproduce a table of the paper through the store: stopped and started again it goes on where it was.

python scripts/reproduce.py mnist --path DIR                     all recipes at their full epochs
python scripts/reproduce.py mnist --path DIR --budget 15         15 epochs per arm, horizons scaled to it
python scripts/reproduce.py mnist --budget modern=15,paper=4     the same by recipe (one left out is not run)
python scripts/reproduce.py cifar10 --path DIR --seeds 0,1,2 --recipes modern --set trainer=gpu
python scripts/reproduce.py mnist --only-table                   write the table from what is on disk

TABLE is mnist (Table 4), cifar10 (Tables 1 and 5), depth (Figure 2) or pairs (two pairs that everybody publishes).
It writes results/TABLE.csv, .md and .png, and RUNS_DIR/reports/TABLE.html with everything about these runs.
"""

import argparse
import csv
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from fitnets import runs as store  # noqa: E402
from fitnets.report.arms import ARM_NAMES  # noqa: E402
from fitnets.report.page import write_page  # noqa: E402
from fitnets.runs import Run, arm_runs, folder_of, read_result, retrained, teacher_run  # noqa: E402

RECIPES = ("paper", "paper_code", "modern")
ARMS = ("backprop", "kd", "fitnet")
DEPTH = ("depth5_30m", "depth7_30m", "depth9_30m", "fitnet1", "depth5_107m", "depth7_107m", "depth9_107m", "fitnet2")
# table -> (experiment, student) to train, in order; and the recipes that it knows
TABLES: dict[str, tuple[list[tuple[str, str]], tuple[str, ...]]] = {
    "mnist": ([("paper/mnist", "mnist_fitnet")], RECIPES),
    "cifar10": ([(f"paper/cifar10_fitnet{i}", f"fitnet{i}") for i in (1, 2, 4, 3)], RECIPES),
    "depth": ([("paper/cifar10_fitnet1", student) for student in DEPTH], RECIPES),
    "pairs": ([("pairs/resnet20", "resnet20"), ("pairs/wrn_16_2", "wrn_16_2")], ("modern",)),
}
# Test error in per cent that the paper prints (Tables 4 and 5); FitNets 1-4 with hints only, depth not retrained.
PAPER = {
    ("mnist", "teacher"): 0.55,
    ("mnist", "backprop"): 1.9,
    ("mnist", "kd"): 0.65,
    ("mnist", "fitnet"): 0.51,
    ("cifar10", "teacher"): 9.82,
    ("cifar10", "fitnet", "fitnet1"): 10.99,
    ("cifar10", "fitnet", "fitnet2"): 8.94,
    ("cifar10", "fitnet", "fitnet3"): 8.90,
    ("cifar10", "fitnet", "fitnet4"): 8.39,
}

NOTES = """Errors: per cent of the test part, mean and sample sd over n seeds, with one teacher. budget: epochs per arm
of the recipe's full epochs; all arms of a recipe get equal updates unless marked. paper_error: the paper's, at its own
full schedule. The weights tested are the best on validation."""


@dataclass
class Row:
    """Errors in per cent of the test part; updates and seconds a seed, all stages of the arm, without the teacher."""

    recipe: str
    arm: str
    student: str
    n: int
    error_mean: str
    error_sd: str
    paper_error: str
    updates: int
    budget: str  # epochs trained an arm, of the recipe's full epochs
    seconds: str


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    rows: list[Row] = []
    hardware: set[str] = set()
    folders: list[Path] = []
    for experiment, student in TABLES[options.table][0]:
        if options.students and student not in options.students.split(","):
            continue
        for recipe in options.recipes:
            cfg = composed(options, experiment, student, recipe)
            if not options.only_table:
                train(cfg, options)
            added, where, found = table_rows(cfg, options, recipe, student)
            rows += [row for row in added if (row.recipe, row.arm, row.student) not in {key(r) for r in rows}]
            hardware |= where
            folders += found
            if rows:
                write(options, rows, hardware)
    if not rows:
        print(f"no finished run of {options.table} in {options.runs_dir}; run it without --only-table", file=sys.stderr)
        return 1
    print((options.out / f"{options.table}.md").read_text())
    out = Path(options.runs_dir) / "reports" / f"{options.table}.html"
    page = write_page(folders, out, f"FitNets: {options.table}", [command(options)], fixed_rows=True)
    print(f"Page with everything, for a browser: {page}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(TABLES))
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated (default: 0,1,2)")
    parser.add_argument("--budget", help="epochs per arm, hint and KD together: N, or RECIPE=N,RECIPE=N")
    parser.add_argument("--teacher-budget", type=int, help="epochs of the teacher (default: its recipe's)")
    parser.add_argument("--arms", default=",".join(ARMS), help="comma-separated (default: backprop,kd,fitnet)")
    parser.add_argument("--students", help="comma-separated (default: all of the table, in its order)")
    parser.add_argument("--recipes", help="comma-separated (default: all that the table has)")
    parser.add_argument("--path", help="folder with the data set's Parquet files (default: the Hugging Face hub)")
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    parser.add_argument("--only-table", action="store_true", help="train nothing; write what is on disk")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any key of conf/, repeatable")
    options = parser.parse_args(arguments)
    options.typed = sys.argv[1:] if arguments is None else arguments
    known = TABLES[options.table][1]
    options.recipes = options.recipes.split(",") if options.recipes else list(known)
    if unknown := [recipe for recipe in options.recipes if recipe not in known]:
        parser.error(f"{options.table} has no recipe {', '.join(unknown)}; choose from: {', '.join(known)}")
    options.arms = options.arms.split(",")
    if unknown := [arm for arm in options.arms if arm not in store.ARMS]:
        parser.error(f"no arm {', '.join(unknown)}; choose from: {', '.join(store.ARMS)}")
    try:
        options.seeds = [int(seed) for seed in options.seeds.split(",")]
    except ValueError:
        parser.error(f"--seeds {options.seeds!r}: expected whole numbers as in --seeds 0,1,2")
    try:
        options.budgets = budgets(options.budget, options.recipes)
    except ValueError as error:
        parser.error(str(error))
    options.recipes = [recipe for recipe in options.recipes if recipe in options.budgets]
    return options


def budgets(text: str | None, recipes: list[str]) -> dict[str, int | None]:
    """Epochs per arm for each recipe that is to run; None: its full epochs."""
    if text is None:
        return dict.fromkeys(recipes)
    pairs = [word.split("=") for word in text.split(",")] if "=" in text else [[recipe, text] for recipe in recipes]
    if not all(len(pair) == 2 and pair[0] in recipes and pair[1].isdigit() and int(pair[1]) >= 2 for pair in pairs):
        known = ", ".join(recipes)
        raise ValueError(f"--budget {text}: expected N or RECIPE=N,... with N >= 2 (a hint and a KD epoch) and {known}")
    return {recipe: int(epochs) for recipe, epochs in pairs}


def composed(options: argparse.Namespace, experiment: str, student: str, recipe: str) -> dict[str, Any]:
    """The config of one experiment and recipe, its epochs scaled to the budget; everything else scales along."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    typed = [f"experiment={experiment}", f"student={student}", f"recipe={recipe}", "keep=best"]
    typed += [f"runs_dir={options.runs_dir}", *([f"dataset.path={options.path}"] if options.path else []), *options.set]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg: Any = OmegaConf.to_container(compose("config", typed), resolve=True)
    cfg["full_epochs"] = cfg["epochs"] | {"teacher": cfg["epochs"]["teacher"] or cfg["teacher"]["recipe"]["epochs"]}
    cfg["epochs"] = dict(cfg["full_epochs"])
    if options.teacher_budget:
        cfg["epochs"]["teacher"] = options.teacher_budget
    if budget := options.budgets[recipe]:
        hint, kd = cfg["epochs"]["hint"], cfg["epochs"]["kd"]
        share = min(budget - 1, max(1, round(budget * hint / (hint + kd))))
        cfg["epochs"] |= {"hint": share, "kd": budget - share}
    return cfg


def train(cfg: dict[str, Any], options: argparse.Namespace) -> None:
    """Every arm for every seed that is not on disk, through the same door as a user's command."""
    import run as door

    cfg = cfg | {"trainer": cfg["trainer"] | {"command": command(options)}}
    for seed in options.seeds:
        for arm in options.arms:
            door.run(cfg | {"stage": {"name": arm}, "seed": seed}, [])


def table_rows(
    cfg: dict[str, Any], options: argparse.Namespace, recipe: str, student: str
) -> tuple[list[Row], set[str], list[Path]]:
    """Rows of what is on disk for this config: the teacher, then each arm with at least one finished seed."""
    runs_dir, rows, hardware = Path(options.runs_dir), [], set()
    folders: list[Path] = []
    full = cfg["full_epochs"]
    again = retrained if cfg["retrain_on_all"] else (lambda run: run)
    planned: list[tuple[str, list[list[Run]], str]] = [
        ("teacher", [[again(teacher_run(cfg))]], f"{cfg['epochs']['teacher']}/{full['teacher']}")
    ]
    epochs = f"{cfg['epochs']['hint'] + cfg['epochs']['kd']}/{full['hint'] + full['kd']}"
    planned += [
        (arm, [[again(r) for r in arm_runs(cfg, arm, s)] for s in options.seeds], epochs) for arm in options.arms
    ]
    for arm, by_seed, budget in planned:
        results = [[read_result(run, runs_dir) for run in runs] for runs in by_seed]
        done = [[r for r in of_seed if r] for of_seed in results if all(of_seed)]
        if not done:
            continue
        finished = [runs for runs, of_seed in zip(by_seed, results, strict=True) if all(of_seed)]
        folders += [folder_of(run, runs_dir) for runs in finished for run in runs]
        errors = [100 * (1 - of_seed[-1]["test_accuracy"]) for of_seed in done]
        if cfg["patience"] is not None:
            budget += " (unequal updates: patience)"
        name = cfg["teacher"]["name"] if arm == "teacher" else student
        printed = PAPER.get((options.table, arm, student), PAPER.get((options.table, arm)))
        rows.append(
            Row(
                *("own" if arm == "teacher" else recipe, arm, name, len(errors), f"{mean(errors):.2f}"),
                f"{stdev(errors):.2f}" if len(errors) > 1 else "",
                "" if printed is None else f"{printed:g}",
                max(sum(r["updates"] for r in of_seed) for of_seed in done),
                budget,
                f"{mean(sum(r['seconds'] for r in of_seed) for of_seed in done):.0f}",
            )
        )
        for result in (r for of_seed in done for r in of_seed):
            where, versions = result["hardware"], result["versions"]
            threads = f", {where['threads']} thread(s)" if where["device"] == "cpu" else ""
            hardware.add(f"{where['name']}{threads}, torch {versions['torch']}, {cfg['trainer']['precision']}")
    return rows, hardware, folders


def key(row: Row) -> tuple[str, str, str]:
    return row.recipe, row.arm, row.student


def write(options: argparse.Namespace, rows: list[Row], hardware: set[str]) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    head = [
        f"command: {command(options)}",
        *(f"hardware: {h}" for h in sorted(hardware)),
    ]
    columns = list(asdict(rows[0]))
    with open(options.out / f"{options.table}.csv", "w", newline="") as file:
        file.writelines(f"# {line}\n" for line in head)
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    lines = [f"# {options.table}", "", *(f"- {line}" for line in head), ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(value) for value in asdict(row).values()) + " |" for row in rows]
    lines += ["", NOTES]
    (options.out / f"{options.table}.md").write_text("\n".join(lines) + "\n")
    plot(rows, options.out / f"{options.table}.png")


def command(options: argparse.Namespace) -> str:
    return shlex.join(["python", "scripts/reproduce.py", *typed_words(options)])


def typed_words(options: argparse.Namespace) -> list[str]:
    """What was typed, less what concerns this machine alone."""
    words, kept = list(options.typed), []
    while words:
        word = words.pop(0)
        if word in ("--out", "--runs-dir"):
            words.pop(0)
        elif word != "--only-table":
            kept.append("DIR" if word == options.path else word)
    return kept


def plot(rows: list[Row], path: Path) -> None:
    """Test errors, mean and sd, a panel a recipe; the budget stands in the title, the paper's numbers do not."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    teachers = {row.student: float(row.error_mean) for row in rows if row.arm == "teacher"}
    shown = [row for row in rows if row.arm != "teacher"]
    recipes = list(dict.fromkeys(row.recipe for row in shown))
    if not recipes:
        return
    figure = Figure(figsize=(1.5 + 2.8 * len(recipes), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, recipe in zip(figure.subplots(1, len(recipes), squeeze=False)[0], recipes, strict=True):
        of_recipe = [row for row in shown if row.recipe == recipe]
        students = list(dict.fromkeys(row.student for row in of_recipe))
        for number, student in enumerate(students):
            points = [row for row in of_recipe if row.student == student]
            places = [list(ARM_NAMES).index(row.arm) + 0.12 * (number - (len(students) - 1) / 2) for row in points]
            spread = [float(row.error_sd or 0) for row in points]
            means = [float(row.error_mean) for row in points]
            axes.errorbar(places, means, spread, fmt="o", capsize=3, label=student)
        for level in teachers.values():
            axes.axhline(level, color="black", linestyle="--", linewidth=1)
        arms = list(dict.fromkeys(row.arm for row in of_recipe))
        places = [list(ARM_NAMES).index(arm) for arm in arms]
        axes.set_xticks(places, [ARM_NAMES[arm].replace(" then", "\nthen") for arm in arms])
        axes.set(
            title=f"{recipe}, {of_recipe[0].budget} epochs", ylim=(0, None), xlim=(places[0] - 0.5, places[-1] + 0.5)
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    figure.axes[0].set_ylabel("test error (%), dashed: teacher")
    if len({row.student for row in shown}) > 1:
        figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
