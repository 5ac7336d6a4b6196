"""Pieces of HTML, words and looks that the sections of the page share."""

import base64
from collections.abc import Collection, Sequence
from html import escape
from typing import Any

from fitnets.report.arms import ARM_NAMES
from fitnets.report.charts import DASHES, MARKERS, SERIES, Line, Style
from fitnets.report.folders import Folder
from fitnets.report.grouping import Figure, Problem, Row, standing

DRAWN = 8  # rows in one figure; more cannot be told apart


def section(name: str, title: str, *parts: str) -> str:
    """Its parts under a title; nothing where all are empty."""
    body = "\n".join(part for part in parts if part)
    return f'<section class="{name}">\n<h3>{escape(title)}</h3>\n{body}\n</section>' if body else ""


def figures(panels: Sequence[str], caption: str, wide: bool = False) -> str:
    """Panels in pairs, or one with its caption beside it, or `wide`; on a phone below each other."""
    if not panels:
        return ""
    kind = "wide" if wide else "solo" if len(panels) == 1 else "pairs"
    inner = "\n".join(f'<div class="panel">{panel}</div>' for panel in panels)
    return (
        f'<figure class="{kind}"><div class="panels">{inner}</div>\n<figcaption>{escape(caption)}</figcaption></figure>'
    )


def table(head: Sequence[str], lines: Sequence[Sequence[str]], caption: str, marked: Collection[int] = ()) -> str:
    """A table in a box of its own that scrolls; columns of figures are set to the right."""
    kinds = ["" if any(line[column][:1].isalpha() for line in lines) else ' class="n"' for column in range(len(head))]
    top = "".join(f"<th{kind}>{escape(cell)}</th>" for kind, cell in zip(kinds, head, strict=True))
    body = ""
    for number, line in enumerate(lines):
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, line, strict=True))
        body += f'<tr class="chosen">{cells}</tr>\n' if number in marked else f"<tr>{cells}</tr>\n"
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>\n"
        f'<p class="caption">{escape(caption)}</p>'
    )


def pictures(wanted: Sequence[tuple[Row, str]], caption: str) -> str:
    """Pictures out of the rows' first runs, as they lie in media/."""
    there = [(row, path) for row, name in wanted if (path := row.first.picture(name))]
    panels = []
    for row, path in there[:DRAWN]:
        data = base64.b64encode(path.read_bytes()).decode()
        alt = escape(f"{caption}: {row.label}")
        panels.append(f'<p class="over">{escape(row.label)}</p><img src="data:image/png;base64,{data}" alt="{alt}">')
    seeds = sorted({row.first.seed for row, _ in there[:DRAWN]})
    more = f"; the first {DRAWN} of {len(there)} rows" if len(there) > DRAWN else ""
    return figures(panels, f"{caption} ({', '.join(f'seed {seed}' for seed in seeds)}{more}).")


def best_of(rows: Sequence[Row]) -> list[Row]:
    """As many of the best on validation as one figure can tell apart, in the order of the rows."""
    best = sorted(rows, key=standing, reverse=True)[:DRAWN]
    return [row for row in rows if row in best]


def mean_told(rows: Sequence[Row], how: str = "") -> str:
    """What is shown of several seeds, with n; `how` it is drawn, where it has a spread."""
    counts = sorted({len(row.runs) for row in rows if row.arm != "teacher"} or {1})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    return "one seed, no spread" if counts == [1] else f"mean ± sample standard deviation over seeds ({n}){how}"


def several_told(count: int) -> str:
    return "" if count <= DRAWN else f"; of {count} rows the {DRAWN} best on validation are drawn"


def told(figure: Figure | None, scale: float, digits: int | None = 2) -> str:
    return figure.told(scale, digits) if figure else ""


def styles_of(rows: Sequence[Row]) -> dict[Row, Style]:
    """A colour an arm; within an arm with several rows, paler and darker."""
    arms, found = list(ARM_NAMES), {}
    for row in rows:
        of_arm = [other for other in rows if other.arm == row.arm]
        place, number = of_arm.index(row), arms.index(row.arm) if row.arm in arms else len(arms)
        alpha = 1.0 if len(of_arm) == 1 else 0.3 + 0.7 * (place + 1) / len(of_arm)
        dash = DASHES[(number // 8 + (place if len(of_arm) > 1 else 0)) % len(DASHES)]
        color = SERIES[-1] if row.arm == "teacher" else SERIES[number % 8]
        marker = "*" if row.arm == "teacher" else MARKERS[(number + place) % len(MARKERS)]
        found[row] = Style(color, alpha, dash, marker)
    return found


def teacher_level(problem: Problem, part: str) -> tuple[float, str] | None:
    """The accuracy of the one teacher in per cent, and what its line is called; None where there are several."""
    if len(problem.teachers) != 1:
        return None
    row = problem.teachers[0]
    figure = row.validation("accuracy") if part == "validation" else row.test("accuracy")
    return (100 * figure.mean, f"teacher {100 * figure.mean:.2f}") if figure else None


def line_of(label: str, style: Style, x: Sequence[float], rows: Sequence[Row], part: str = "validation") -> Line:
    """Accuracies in per cent; bars only where every point has a spread."""
    found = [row.validation("accuracy") if part == "validation" else row.test("accuracy") for row in rows]
    known = [(at, figure) for at, figure in zip(x, found, strict=True) if figure]
    spread = [100 * figure.sd for _, figure in known if figure.sd is not None]
    means = [100 * figure.mean for _, figure in known]
    return Line(label, style, [at for at, _ in known], means, spread if len(spread) == len(means) else [])


def detail(run: Folder, name: str) -> Any:
    return run.result.get("details", {}).get(name)
