"""The page's words and tables: the result, the lineage of the runs, the commands that made them."""

from collections.abc import Callable, Sequence
from html import escape
from statistics import mean

from fitnets.report.charts import counted_in
from fitnets.report.folders import FIRST_STAGES, Folder
from fitnets.report.grouping import Problem, Row, against_backprop, arm_name
from fitnets.report.parts import mean_told, section, table, told

# column -> its cell, and what the caption says of it; a column with nothing in it is left out
Column = tuple[str, Callable[[Row], str], str]


def columns_of(problem: Problem) -> list[Column]:
    return [
        ("validation %", lambda row: told(row.validation("accuracy"), 100), ""),
        ("test %", lambda row: told(row.test("accuracy"), 100) if row.shown else "–", ""),
        ("n", lambda row: str(len(row.runs)), ""),
        (
            *("vs backprop", lambda row: versus_told(row, problem)),
            "vs backprop: test accuracy in points, paired by seed, ± the half width of the 95 % t-interval",
        ),
        (
            *("agreement %", lambda row: told(row.test("agreement"), 100)),
            "agreement: test images that get the teacher's answer",
        ),
        ("ECE %", lambda row: told(row.test("ece"), 100), "ECE: expected calibration error on the test part"),
        ("Brier", lambda row: told(row.test("brier"), 1, 3), "Brier: the Brier score on the test part"),
        ("params", lambda row: counted_in(row.first.result["params"]), "params: parameters"),
        (
            *("mults", lambda row: counted_in(row.first.result["multiplications"])),
            "mults: multiplications for one image",
        ),
        ("updates", lambda row: f"{max(sum(s.result['updates'] for s in stages(run)) for run in row.runs):,}", ""),
        (
            *("seconds", lambda row: f"{mean(sum(s.result['seconds'] for s in stages(run)) for run in row.runs):.1f}"),
            "updates and seconds: a seed's hint and KD stages together, without the teacher",
        ),
    ]


def headline(problem: Problem) -> str:
    """The table that answers what was asked: a row an arm or a swept value."""
    rows = problem.rows
    if not rows:
        return ""
    titles = list(dict.fromkeys(title for row in problem.students for title in row.names))
    columns = [column for column in columns_of(problem) if any(column[1](row) for row in rows)]
    head = ["arm", *titles, *(title for title, _, _ in columns)]
    lines = []
    for row in rows:
        who = row.label if row.arm == "teacher" else arm_name(row.arm)
        lines.append([who, *(row.names.get(title, "") for title in titles), *(cell(row) for _, cell, _ in columns)])
    chosen = {n for n, row in enumerate(rows) if row.shown and sum(other.arm == row.arm for other in rows) > 1}
    notes = [
        f"Accuracy on the validation and the test part: {mean_told(rows)}",
        *(note for _, _, note in columns if note),
    ]
    caption = f"{'; '.join(notes)}. {chosen_told(problem)}"
    if problem.repeated:
        caption += f" {problem.repeated} older run(s) with the same settings and seed as a newer one are left out."
    return section("headline", "Result", table(head, lines, caption, chosen))


def stages(run: Folder) -> list[Folder]:
    """The run and the stage before it that trained the same student."""
    return [*([run.parents["hint"]] if "hint" in run.parents else []), run]


def versus_told(row: Row, problem: Problem) -> str:
    found = against_backprop(row, problem)
    if found is None:
        return ""
    middle, half = found
    return f"{100 * middle:+.2f}".replace("-", "−") + ("" if half is None else f" ± {100 * half:.2f}")


def chosen_told(problem: Problem) -> str:
    kept = {row.first.config["recipe"]["keep"] for row in problem.students}
    weights = {"last": "the last epoch's", "best": "the best on validation"}
    tested = f"Weights tested: {' or '.join(weights[keep] for keep in sorted(kept))}. " if kept else ""
    if not problem.swept:
        return f"{tested}The rows were fixed in advance; nothing was selected on the test part."
    return tested + (
        "Within an arm with several settings the row with the best mean validation accuracy (ties: NLL) was chosen; "
        "the test part is shown for it alone (–: not looked at)."
    )


def lineage(folders: Sequence[Folder], hidden: set[str], labels: dict[str, str]) -> str:
    """Every run below what it starts from: teacher, then hint, then KD. Test figures of `hidden` runs are not told."""
    names = {folder.name for folder in folders}

    def parent(folder: Folder) -> str | None:
        above = (folder.parents[role].name for role in ("found", "hint", "teacher", "score") if role in folder.parents)
        return next((name for name in above if name in names), None)

    def node(folder: Folder) -> str:
        below = "".join(node(child) for child in folders if parent(child) == folder.name)
        gone = ", ".join(role for role in folder.config["parents"] if role not in folder.parents)
        gone = f' <span class="muted">({escape(gone)} no longer on disk)</span>' if gone else ""
        scored = [f"scored by {name}" for role, name in folder.config["parents"].items() if role == "score"]
        label = [labels[folder.name]] if folder.name in labels else []
        told = ", ".join([*label, one_line(folder, folder.name in hidden), *scored])
        about = f'<span class="muted">{escape(told)}</span>{gone}'
        below = f"<ul>{below}</ul>" if below else ""
        return f"<li><code>{escape(folder.name)}</code> {about}{below}</li>"

    roots = "".join(node(folder) for folder in folders if parent(folder) is None)
    return (
        f'<section class="lineage">\n<h3>Lineage</h3>\n<details{" open" if len(folders) <= 24 else ""}>'
        f"<summary>{len(folders)} runs, each below what it starts from</summary>\n"
        f'<ul class="tree">{roots}</ul></details>\n</section>'
    )


def one_line(folder: Folder, hidden: bool) -> str:
    result, words = folder.result, []
    figures = result["validation"]
    if "hint_loss" in figures:
        words = [f"hint loss {figures['hint_loss']:.4g}", f"R2 {figures['r2']:.3f}"]
    elif "accuracy" in figures:
        words = [f"validation {100 * figures['accuracy']:.2f} %"]
    if result["test_accuracy"] is not None and not hidden and result["stage"] not in FIRST_STAGES:
        words.append(f"test {100 * result['test_accuracy']:.2f} %")
    return ", ".join([*words, f"{result['epochs']} epochs, {result['seconds']:.1f} s"])


def made_by(folders: Sequence[Folder], commands: Sequence[str]) -> str:
    """The commands that the caller names, then those that the run folders have kept."""
    kept: dict[str, list[str]] = {}
    for folder in folders:
        if command := folder.config["trainer"].get("command"):
            kept.setdefault(command, []).append(folder.name)
    lines = [f"<pre>{escape(command)}</pre>" for command in commands]
    others = {command: names for command, names in kept.items() if command not in commands}
    if others:
        listed = ""
        for command, names in others.items():
            made = "<br>".join(f"<code>{escape(name)}</code>" for name in names)
            listed += f"<dt><code>{escape(command)}</code></dt><dd>{made}</dd>\n"
        lines.append(
            f"<details{'' if commands else ' open'}><summary>Commands that trained these runs first, and what each made"
            f"</summary><dl>{listed}</dl></details>"
        )
    if not lines:
        return ""
    return '<section class="commands">\n<h3>Commands</h3>\n' + "\n".join(lines) + "\n</section>"
