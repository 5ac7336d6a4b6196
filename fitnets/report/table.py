"""The report of a list of commands: a table as text, Markdown and CSV, a plot, and the page.

Arms that were fixed before anything was trained show the test part of each. Else the choice is made on validation,
and the test part is shown for the chosen row only.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fitnets.report import plots
from fitnets.report.charts import png
from fitnets.report.columns import BALANCED, DIVERGED, MULTS, PARAMS, SECONDS, UPDATES, Column, N, test_accuracy, versus
from fitnets.report.folders import joined, read
from fitnets.report.page import write_page
from fitnets.report.rows import Row, baseline_of, choose, criterion_of, standing

CHOICE = (
    "Chosen on validation: the highest mean, among equal ones the lowest NLL, among rows with the most seeds. Test is "
    "shown for the chosen row only. ± is the sample sd over seeds."
)


@dataclass(frozen=True)
class Entry:
    """A command that was run with one seed."""

    at: dict[str, str]  # what tells its row from the others, in the order of columns
    folder: Path  # of its last training
    name: str = ""  # of its arm, as it is typed


@dataclass(frozen=True)
class Report:
    """What is to be reported of a list of commands, and where to."""

    folder: Path
    command: str  # as typed
    entries: Sequence[Entry]
    title: str = ""  # "": from the runs
    fixed: bool = False  # rows were fixed before training: the test part of each, and differences to the baseline
    ranked: bool = False  # best first, else in the order of the entries
    grid: bool = True  # two keys make a heat map
    more: str = ""  # a further sentence for the footnote


@dataclass(frozen=True)
class Table:
    """Rows and columns, and what stands round them."""

    title: str
    footnote: str
    columns: list[Column]
    rows: list[Row]
    above: list[Row] = field(default_factory=list)  # the teachers' rows

    def lines(self, brief: bool = False) -> list[list[str]]:
        """Head and rows; `brief`: narrow enough for a terminal."""
        titles = [column.short if brief and column.short else column.title for column in self.columns]
        lines = [[*self.rows[0].at, *titles]]
        for row in [*self.above, *self.rows]:
            label = row.arm if brief and len(self.above) == 1 else row.label
            named = list(row.at.values()) if row in self.rows else [label, *[""] * (len(self.rows[0].at) - 1)]
            lines.append([*named, *(column.cell(row, brief) for column in self.columns)])
        return lines

    def markdown(self, command: str) -> str:
        head, *body = ["| " + " | ".join(line) + " |" for line in self.lines()]
        sides = ["---:|" if column.title else "---|" for column in self.columns]
        rule = "|" + "---|" * len(self.rows[0].at) + "".join(sides)
        return "\n".join([f"**{self.title}** (`{command}`)", "", head, rule, *body, "", self.footnote, ""])

    def write_csv(self, path: Path, comments: Sequence[str] = ()) -> None:
        """Accuracies and differences are fractions; an arm has the name that is typed."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            file.writelines(f"# {line}\n" for line in comments)
            writer = csv.writer(file)
            writer.writerow([*self.rows[0].at, *(name for column in self.columns for name in column.names)])
            for row in self.rows:
                at = row.at | ({"arm": row.name} if row.name and "arm" in row.at else {})
                numbers = [number for column in self.columns for number in column.numbers(row)]
                writer.writerow([*at.values(), *numbers])


def write(report: Report, console: Any) -> list[Row]:
    """Print the table; write table.md, table.csv, a plot and page.html. Returns the rows as the table has them."""
    rows = rows_of(report.entries)
    table = table_of_arms(report, rows) if report.fixed else table_of_settings(report, rows)
    if not table.rows:
        console.print(f"\n{table.title}\n\nThese runs have no validation figure to choose by, so there is no table.")
        return []
    report.folder.mkdir(parents=True, exist_ok=True)
    (report.folder / "table.md").write_text(table.markdown(report.command), encoding="utf-8")
    table.write_csv(report.folder / "table.csv")
    text = aligned(table.lines(brief=report.fixed), left=len(rows[0].at) if report.fixed else 0)
    console.print(f"\n{table.title}\n\n{text}\n\n{table.footnote}")
    plot = report.folder / ("curves.png" if report.fixed else "plot.png")
    try:
        if report.fixed:
            draws, size = plots.of_arms(rows, table.above)
        else:  # the rows of the table, but in the order of the entries
            in_order = [row for row in rows if row in table.rows]
            draws, size = plots.of_settings(in_order, teachers_of(rows), criterion_of(rows), report.grid)
        png(plot, draws, table.title, size)
    except Exception as error:  # a plot that fails costs nobody the table
        console.print(f"The plot could not be drawn: {type(error).__name__}: {error}")
    runs = f"   runs: {report.entries[0].folder.parent}/ (scripts/runs.py)" if report.fixed else ""
    console.print(f"\nTable: {report.folder}/table.md   plot: {plot}{runs}")
    arms = {entry.folder.name: entry.at["arm"] for entry in report.entries if "arm" in entry.at}
    folders = list(dict.fromkeys(entry.folder for entry in report.entries))
    page = write_page(folders, report.folder / "page.html", table.title, [report.command], report.fixed, arms)
    console.print(f"Page with everything, for a browser: {page}")
    return table.rows


def rows_of(entries: Sequence[Entry]) -> list[Row]:
    """A row for each setting in the order of the entries, with its runs in theirs."""
    folders = {folder.path: folder for folder in read([entry.folder for entry in entries])}
    found: dict[tuple[str, ...], Row] = {}
    for entry in entries:
        run = folders[entry.folder.resolve()]
        arm = entry.at.get("arm", run.config["arm"]["title"])
        label = ", ".join(entry.at.values()) or arm
        row = found.setdefault(tuple(entry.at.values()), Row(arm, [], dict(entry.at), entry.name, label))
        if run not in row.runs:
            row.runs.append(run)
    return list(found.values())


def teachers_of(rows: Sequence[Row]) -> list[Row]:
    """A row for each teacher that something was learned from."""
    steps = [step for row in rows for run in row.runs for step in run.steps]
    teachers = dict.fromkeys(step.parents["teacher"] for step in steps if "teacher" in step.parents)
    trained = [run for run in teachers if run.is_teacher]
    return [Row("teacher", [run], label=f"teacher ({run.result['teacher']})") for run in trained]


def table_of_arms(report: Report, rows: list[Row]) -> Table:
    baseline, teachers = baseline_of(rows), teachers_of(rows)
    columns = [test_accuracy("accuracy_mean", "accuracy_sd"), *where_uneven(rows), N, *where_diverged(rows)]
    if baseline:
        columns += [versus(f"vs {baseline.label}", lambda row: baseline, "difference", "difference_ci")]
    columns += [PARAMS, MULTS, UPDATES, SECONDS]
    footnote = " ".join(filter(None, [what_makes_them_comparable(rows, baseline), report.more, *notes_on(rows)]))
    return Table(report.title or title_of_arms(rows, teachers), footnote, columns, rows, teachers)


def table_of_settings(report: Report, everything: list[Row]) -> Table:
    by = criterion_of(everything)
    rows = [row for row in everything if by.of(row) or row.diverged]
    choose(rows, by)
    if report.ranked:
        rows = sorted(rows, key=lambda row: (row.chosen, standing(row, by)), reverse=True)
    others = sum(len(row.runs) for row in everything if row not in rows)
    left_out = f"{others} runs have no {by.title} and are not in it." if others else ""
    validation = Column(by.title, by.of, by.text, ("validation", "validation_sd"))
    chosen = Column("", lambda row: row.chosen, lambda is_chosen: "chosen" if is_chosen else "", ("chosen",))
    tested = [test_accuracy("test", "test_sd"), *where_uneven(rows)]
    columns = [validation, N, *where_diverged(rows), *tested, PARAMS, MULTS, SECONDS, chosen]
    title = report.title or title_of_values(everything, list(everything[0].at))
    return Table(title, " ".join(filter(None, [CHOICE, report.more, left_out, *notes_on(rows)])), columns, rows)


def where_uneven(rows: Sequence[Row]) -> list[Column]:
    return [BALANCED] if any(row.first.result["data"]["uneven"] for row in rows) else []


def where_diverged(rows: Sequence[Row]) -> list[Column]:
    return [DIVERGED] if any(row.diverged for row in rows) else []


def notes_on(rows: Sequence[Row]) -> list[str]:
    """What is to be known of the data, and of runs that diverged, before the figures are believed."""
    notes = dict.fromkeys(note for row in rows for run in row.runs for note in run.result["data"]["notes"])
    diverged = ["diverged: runs with figures that are not finite; a row with one is never chosen"]
    return [f"NOTE: {note}." for note in [*notes, *(diverged if where_diverged(rows) else [])]]


def aligned(lines: Sequence[Sequence[str]], left: int = 0) -> str:
    """The table for a terminal: columns aligned, the first `left` of them at their left side."""
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    written = []
    for line in lines:
        padded = [cell.ljust(widths[i]) if i < left else cell.rjust(widths[i]) for i, cell in enumerate(line)]
        written.append("  ".join(padded).rstrip())
    return "\n".join(written)


def title_of_arms(rows: Sequence[Row], teachers: Sequence[Row]) -> str:
    """Which student learned from which teacher on what; for orders of samples: by which arm, score and pacing."""
    first = rows[0].first
    student = joined(row.first.result["student"] for row in rows)
    if len({row.order for row in rows}) > 1:
        return f"{student} by {arm_in_every_order(rows)} on {first.data_text}, {curriculum_text(rows)}"
    teacher = joined(row.first.result["teacher"] for row in teachers)
    source = f" from {teacher}" if teacher else ""
    return f"{student}{source} on {first.data_text}, init {first.config['init']['name']}"


def arm_in_every_order(rows: Sequence[Row]) -> str:
    """The title of what was trained; the stage's own where the run is titled by its order."""
    config = rows[0].first.config
    titles = {title for row in rows for title in row.at.values()}
    return config["title"] if config["arm"]["title"] in titles else config["arm"]["title"]


def curriculum_text(rows: Sequence[Row]) -> str:
    curricula = [row.first.config["curriculum"] for row in rows if row.order != "none"]
    pacing = f"pacing {curricula[0]['pacing']['name']}" + (", balanced" if curricula[0]["balanced"] else "")
    scores = joined(curriculum["score"]["name"] for curriculum in curricula if "score" in curriculum)
    return f"score {scores}, {pacing}" if scores else pacing


def title_of_values(rows: Sequence[Row], keys: Sequence[str]) -> str:
    """What was varied, and what all runs have in common; what is varied stands on the axes."""
    found = []
    for word, key in (("", "student"), ("from ", "teacher"), ("on ", "dataset")):
        values = joined(run.result[key] for row in rows for run in row.runs if key not in keys)
        found += [f"{word}{values}"] if values else []
    return f"{' x '.join(keys) or 'seeds'}: {' '.join(found)}"


def what_makes_them_comparable(rows: Sequence[Row], baseline: Row | None) -> str:
    """The footnote of a table of arms. It says where they are not."""
    searched = rows[0].first.search.config  # the recipe as it was given, also for a retraining
    recipe, labels = searched["recipe"], rows[0].first.result["labels"]
    few = ""
    if baseline and baseline.from_labels_alone and labels != "all":
        arm = arm_in_every_order(rows) if len({row.order for row in rows}) > 1 else baseline.label
        few = f"; {arm}: {min(labels, recipe['batch_size'])} of the labelled images"
    optimizer = recipe["optimizer"]["_target_"].rpartition(".")[2]
    how = f"{optimizer}, lr {recipe['optimizer'].get('lr')}, {recipe['lr_schedule']}, batch {recipe['batch_size']}{few}"
    weights = "same initial weights a seed" if alike(rows, "student", "init") else "DIFFERENT INITIAL WEIGHTS"
    one_set = "one set of hyper-parameters" if alike(rows, "recipe", "augment") else "DIFFERENT HYPER-PARAMETERS"
    updates = "same number of updates" if len({row.updates for row in rows}) == 1 else "UNEQUAL UPDATES"
    if searched["patience"]:
        updates = f"UNEQUAL UPDATES (patience {searched['patience']})"
    tested = "best on validation" if recipe["keep"] == "best" else "the last"
    return (
        f"All arms: {weights}, {updates}, {one_set} ({how}); weights tested: {tested}. "
        "± is the sample sd over seeds, with one teacher and one split; "
        "differences are paired by seed, with a 95 % t-interval."
    )


def alike(rows: Sequence[Row], *keys: str) -> bool:
    """Whether all rows have the same under these keys of config.yaml."""
    configs = [row.first.search.config for row in rows]
    return len({json.dumps([config.get(key) for key in keys], sort_keys=True) for config in configs}) == 1
