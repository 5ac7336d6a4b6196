"""The page's words and tables: the result, the lineage of the runs, the commands that made them."""

from collections.abc import Callable, Sequence
from html import escape
from statistics import mean

from fitnets.report.folders import FIRST_STAGES, Folder
from fitnets.report.grouping import Problem, Row, against_backprop, arm_name
from fitnets.report.parts import section, spread_told, table, told


def headline(problem: Problem) -> str:
    """The table that answers what was asked: a row an arm or a swept value."""
    rows = problem.rows
    if not rows:
        return ""
    named = list(dict.fromkeys(title for row in problem.students for title in row.names))
    optional: list[tuple[str, Callable[[Row], str]]] = [
        ("vs backprop", lambda row: versus_told(row, problem)),
        ("agreement %", lambda row: told(row.test("agreement"), 100)),
        ("ECE %", lambda row: told(row.test("ece"), 100)),
        ("Brier", lambda row: told(row.test("brier"), 1, 4)),
    ]
    optional = [(title, cell) for title, cell in optional if any(cell(row) for row in rows)]
    head = ["arm", *named, "validation %", "test %", "n", *(title for title, _ in optional)]
    head += ["parameters", "multiplications", "updates", "seconds"]
    lines = []
    for row in rows:
        who = f"teacher ({row.first.result['teacher']})" if row.arm == "teacher" else arm_name(row.arm)
        test = told(row.test("accuracy"), 100) if row.shown else "–"
        line = [who, *(row.names.get(title, "") for title in named), told(row.validation("accuracy"), 100), test]
        line += [str(len(row.runs)), *(cell(row) for _, cell in optional)]
        result = row.first.result
        updates = max(sum(run.result["updates"] for run in stages(one)) for one in row.runs)
        seconds = mean(sum(run.result["seconds"] for run in stages(one)) for one in row.runs)
        lines.append(
            [*line, f"{result['params']:,}", f"{result['multiplications']:,}", f"{updates:,}", f"{seconds:.1f}"]
        )
    caption = [f"Accuracy on the validation and the test part, mean {spread_told(rows, '±')}"]
    if any(title == "vs backprop" for title, _ in optional):
        caption.append(
            "vs backprop: test accuracy, paired by seed, points; ± there: the half width of the 95 % t-interval"
        )
    if any(title == "agreement %" for title, _ in optional):
        caption.append("agreement: test images with the teacher's answer")
    if any(title == "ECE %" for title, _ in optional):
        caption.append("ECE: expected calibration error on the test part, 15 bins")
    caption.append("updates and seconds: hint and KD stages together, a seed, without the teacher")
    repeated = (
        f" {problem.repeated} older runs with the same settings and seed are left out." if problem.repeated else ""
    )
    marked = {number for number, row in enumerate(rows) if problem.swept and row.shown and row.arm != "teacher"}
    return section(
        "headline",
        "Result",
        table(head, lines, 1 + len(named), f"{'; '.join(caption)}. {chosen_told(problem)}{repeated}", marked),
    )


def chosen_told(problem: Problem) -> str:
    if not problem.swept:
        return "The rows were fixed in advance; nothing was selected on the test part."
    return (
        "Within an arm with several settings the row with the best mean validation accuracy (ties: NLL) was chosen; "
        "the test part is shown for it alone (–: not looked at)."
    )


def stages(run: Folder) -> list[Folder]:
    """The run and the stage before it that trained the same student."""
    return [*([run.parents["hint"]] if "hint" in run.parents else []), run]


def versus_told(row: Row, problem: Problem) -> str:
    found = against_backprop(row, problem)
    if found is None:
        return ""
    middle, half = found
    return f"{100 * middle:+.2f}" + ("" if half is None else f" ± {100 * half:.2f}")


def lineage(folders: Sequence[Folder], hidden: set[str]) -> str:
    """Every run below what it starts from: teacher, then hint, then KD. Test figures of `hidden` runs are not told."""
    names = {folder.name for folder in folders}

    def parent(folder: Folder) -> str | None:
        above = (folder.parents[role].name for role in ("found", "hint", "score", "teacher") if role in folder.parents)
        return next((name for name in above if name in names), None)

    def node(folder: Folder) -> str:
        below = "".join(node(child) for child in folders if parent(child) == folder.name)
        gone = ", ".join(role for role in folder.config["parents"] if role not in folder.parents)
        gone = f' <span class="muted">({escape(gone)} no longer on disk)</span>' if gone else ""
        about = f'<span class="muted">{escape(one_line(folder, folder.name in hidden))}</span>{gone}'
        below = f"<ul>{below}</ul>" if below else ""
        return f"<li><code>{escape(folder.name)}</code> {about}{below}</li>"

    roots = "".join(node(folder) for folder in folders if parent(folder) is None)
    return (
        f'<section class="lineage">\n<h2>Lineage</h2>\n<details{" open" if len(folders) <= 24 else ""}>'
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
    return '<section class="commands">\n<h2>Commands</h2>\n' + "\n".join(lines) + "\n</section>"
