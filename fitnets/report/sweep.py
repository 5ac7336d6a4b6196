"""The table and the plot of a sweep or of stage=positions, from what is on disk. Imports no torch.

The choice is made on validation; the test part is shown for the chosen row only.
"""

import csv
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fitnets.report.arms import ARM_NAMES, FIRST_STAGES
from fitnets.report.page import write_page
from fitnets.report.sweep_plot import plot
from fitnets.sweep import SEEDS, read_jobs, swept
from fitnets.wandb_run import sync_command

PAIR = ("hint.teacher_layer", "hint.student_layer")
FIGURES = {"accuracy": ("validation accuracy %", 100.0), "r2": ("validation R2", 1.0)}  # the first that is there


@dataclass(frozen=True)
class Point:
    """One trained student (or hint stage) of a sweep: the values of what was varied, and its result."""

    at: tuple[str, ...]
    folder: Path
    result: dict[str, Any]
    seconds: float  # with its hint stage, without its teacher


@dataclass(frozen=True)
class Row:
    """The points that differ in their seed only. Accuracies are fractions; test only where the row is chosen."""

    at: tuple[str, ...]
    validation: float
    validation_sd: float | None  # sample standard deviation; None with n = 1
    n: int
    tie: float  # mean validation NLL (hint stages: loss), the smaller the better
    test: float | None
    test_sd: float | None
    params: int
    multiplications: int
    seconds: float
    chosen: bool = False


# ------------------------------------------------------------------------------------------- points


def points_of(described: Sequence[dict[str, Any]], keys: Sequence[str], values: dict[str, str]) -> list[Point]:
    """The last stages among the runs that one command names, as fitnets.sweep.described tells of them."""
    points = []
    last = [run for run in described if run["stage"] not in FIRST_STAGES] or list(described)
    for run in last:
        own = {"arm": ARM_NAMES.get(run["arm"], run["arm"])} | dict(zip(PAIR, run["hint"] or ("", ""), strict=True))
        at = tuple(values[key] if key in values else own.get(key, "") for key in keys)
        before = [Path(folder) for role, folder in run["parents"].items() if role not in ("teacher", "score")]
        seconds = sum(read(folder)["seconds"] for folder in before)
        result = read(Path(run["folder"]))
        points.append(Point(at, Path(run["folder"]), result, seconds + result["seconds"]))
    return list({(point.at, point.folder): point for point in points}.values())


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def varied(jobs: Sequence[dict[str, Any]]) -> list[str]:
    """What tells the rows apart: the swept keys but seeds, and arm or layers where one job has several."""
    keys = [key for key in swept([job["overrides"] for job in jobs]) if key not in SEEDS]
    ends = [[run for run in job["runs"] if run["stage"] not in FIRST_STAGES] for job in jobs]
    if any(len({run["arm"] for run in runs}) > 1 for runs in ends):
        keys.append("arm")
    if any(len({tuple(run["hint"]) for run in runs if run["arm"] == "fitnet" and run["hint"]}) > 1 for runs in ends):
        keys += [key for key in PAIR if key not in keys]
    return keys


def teacher_of(described: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The result of the teacher, where all runs share one that is trained."""
    folders = {run["parents"]["teacher"] for run in described if "teacher" in run["parents"]}
    result = read(Path(folders.pop())) if len(folders) == 1 else {}
    return result if result.get("validation") else None


# --------------------------------------------------------------------------------------------- rows


def figure_of(points: Sequence[Point]) -> str:
    return next(name for name in FIGURES if any(name in point.result["validation"] for point in points))


def rows(points: Sequence[Point], figure: str) -> list[Row]:
    """A row for each setting, in the order of the points; the best on validation is chosen.

    The best has the highest mean, among equal means the lowest NLL. Only rows with the most seeds can be chosen: a
    lucky seed is not a better setting.
    """
    groups: dict[tuple[str, ...], list[Point]] = {}
    for point in points:
        if figure in point.result["validation"]:
            groups.setdefault(point.at, []).append(point)
    table = []
    for at, group in groups.items():
        results = [point.result for point in group]
        values = [result["validation"][figure] for result in results]
        ties = [result["validation"].get("nll", result["validation"].get("hint_loss", 0.0)) for result in results]
        tests = [result["test_accuracy"] for result in results if result["test_accuracy"] is not None]
        table.append(
            Row(
                at, mean(values), _sd(values), len(values), mean(ties), mean(tests) if tests else None, _sd(tests),
                results[0]["params"], results[0]["multiplications"], mean(point.seconds for point in group),
            )
        )  # fmt: skip
    most = max(row.n for row in table)
    best = max((row for row in table if row.n == most), key=lambda row: (row.validation, -row.tie))
    return [replace(row, chosen=True) if row is best else replace(row, test=None, test_sd=None) for row in table]


def _sd(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


# ------------------------------------------------------------------------------------------- tables


def header(keys: Sequence[str], figure: str) -> list[str]:
    return [*keys, FIGURES[figure][0], "n", "test accuracy %", "parameters", "multiplications", "seconds"]


def cells(row: Row, figure: str) -> list[str]:
    scale, digits = FIGURES[figure][1], 2 if figure == "accuracy" else 4
    validation = f"{scale * row.validation:.{digits}f}" + _spread(row.validation_sd, scale, digits)
    test = "" if row.test is None else f"{100 * row.test:.2f}" + _spread(row.test_sd, 100, 2)
    costs = [f"{row.params:,}", f"{row.multiplications:,}", f"{row.seconds:.1f}"]
    return [*row.at, validation, str(row.n), test, *costs]


def _spread(sd: float | None, scale: float, digits: int) -> str:
    return "" if sd is None else f" ± {scale * sd:.{digits}f}"


def lines(table: Sequence[Row], keys: Sequence[str], figure: str) -> list[list[str]]:
    """Header and rows; the chosen row is marked in its last column."""
    marks = ["chosen" if row.chosen else "" for row in table]
    return [[*header(keys, figure), ""], *([*cells(row, figure), m] for row, m in zip(table, marks, strict=True))]


def markdown(title: str, command: str, table: Sequence[Row], keys: Sequence[str], figure: str, note: str) -> str:
    head, *body = ["| " + " | ".join(line) + " |" for line in lines(table, keys, figure)]
    rule = "|" + "---|" * len(keys) + "---:|" * (len(header(keys, figure)) - len(keys)) + "---|"
    return "\n".join([f"**{title}** (`{command}`)", "", head, rule, *body, "", note, ""])


def write_csv(path: Path, table: Sequence[Row], keys: Sequence[str]) -> None:
    named = [name for name in Row.__dataclass_fields__ if name not in ("at", "tie")]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*keys, *named])
        writer.writerows([*row.at, *("" if (v := getattr(row, n)) is None else v for n in named)] for row in table)


def in_columns(listed: Sequence[Sequence[str]]) -> str:
    """The table for a terminal, columns aligned."""
    widths = [max(len(line[column]) for line in listed) for column in range(len(listed[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in listed
    )


def title_of(points: Sequence[Point], keys: Sequence[str]) -> str:
    def all_of(word: str, key: str) -> str:
        """What is common to the points; what is swept over stands on the axes."""
        values = dict.fromkeys(str(p.result[key]) for p in points if p.result[key] is not None and key not in keys)
        return f"{word}{', '.join(values)}" if values else ""

    parts = [all_of("", "student"), all_of("from ", "teacher"), all_of("on ", "dataset")]
    return f"{' x '.join(keys) or 'seeds'}: {' '.join(part for part in parts if part)}"


NOTE = (
    "Chosen on validation: the highest mean, among equal ones the lowest NLL, among rows with the most seeds. Test is "
    "shown for the chosen row only. ± is the sample sd over seeds."
)


def write_report(
    folder: Path,
    points: Sequence[Point],
    keys: Sequence[str],
    title: str,
    command: str,
    console: Any,
    teacher: dict[str, Any] | None = None,
    ranked: bool = False,
    more: str = "",
    grid: bool = True,
) -> list[Row]:
    """Print the table; write table.md, table.csv and plot.png.

    `ranked`: best first, else in the points' order. `grid`: two keys make a heat map.
    """
    figure = figure_of(points)
    in_order = rows(points, figure)
    table = sorted(in_order, key=lambda row: (not row.chosen, -row.validation, row.tie)) if ranked else in_order
    others = sum(figure not in point.result["validation"] for point in points)
    more += f" {others} runs have no {FIGURES[figure][0]} and are not in it." if others else ""
    note = f"{NOTE} {more}".strip()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(markdown(title, command, table, keys, figure, note))
    write_csv(folder / "table.csv", table, keys)
    name, scale = FIGURES[figure]
    level = teacher["validation"].get(figure) if teacher else None
    plot(folder / "plot.png", in_order, keys, title, name, scale, level, grid)
    console.print(f"\n{title}\n\n{in_columns(lines(table, keys, figure))}\n\n{note}")
    console.print(f"\nTable: {folder}/table.md   plot: {folder}/plot.png")
    return table


def add_page(folder: Path, points: Sequence[Point], title: str, command: str, console: Any) -> None:
    """page.html beside the table: everything about the runs of the points."""
    page = write_page([point.folder for point in points], folder / "page.html", title, [command])
    console.print(f"Page with everything, for a browser: {page}")


# ------------------------------------------------------------------------------------------- a sweep


def finish(sweep_folder: Path) -> int:
    """Report on a sweep when its jobs have ended, however they did; its exit code: 0, 1 (failed) or 2 (refused)."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    sweep, jobs = json.loads((sweep_folder / "sweep.json").read_text()), read_jobs(sweep_folder)
    done = [job for job in jobs if job["status"] == "done"]
    bad = [job for job in jobs if job["status"] != "done"]
    keys, names = varied(jobs), swept([job["overrides"] for job in jobs])
    points: list[Point] = []
    for job in done:
        there = [run for run in job["runs"] if (Path(run["folder"]) / "result.json").exists()]  # none in a dry run
        trained = [run for run in there if run["stage"] != "score"]  # which has no validation figure to choose by
        points += points_of(trained, keys, values_of(job))
    console.print(f"\nSweep: {len(done)} of {len(jobs)} jobs done")
    if points:
        described = [run for job in done for run in job["runs"]]
        failed = f"{len(bad)} of {len(jobs)} jobs failed and are not in it." if bad else ""
        folder = Path(sweep["runs_dir"]) / "reports" / f"sweep-{sweep['name']}"
        command = shlex.join(["python", "run.py", "-m", *sweep["words"]])
        title = title_of(points, keys)
        write_report(folder, points, keys, title, command, console, teacher_of(described), more=failed)
        add_page(folder, points, title, command, console)
    runs = [run for job in jobs for run in job["runs"]]
    folders = dict.fromkeys(folder for run in runs for folder in (*run["parents"].values(), run["folder"]))
    if upload := sync_command([Path(folder) for folder in folders]):
        console.print(f"W&B runs are offline; to upload them: {upload}")
    for job in bad:
        told = " ".join(f"{key}={value}" for key, value in values_of(job).items() if key in names)
        where = f" (traceback: {job['traceback']})" if "traceback" in job else ""
        console.print(f"{job['status'].upper()} job {job['number'] + 1} {told}: {job['reason']}{where}")
    if bad:
        console.print("The same command again runs what is missing; what is done is reused.")
    return 0 if not bad else 2 if all(job["status"] == "refused" for job in bad) else 1


def values_of(job: dict[str, Any]) -> dict[str, str]:
    pairs = (word.partition("=") for word in job["overrides"])
    return {key.lstrip("+"): value for key, _, value in pairs}
