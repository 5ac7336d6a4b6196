"""Sections on what was reached: accuracy against cost, and the test part in detail."""

from collections.abc import Callable, Sequence
from html import escape
from statistics import mean, stdev
from typing import Any

from fitnets.report.charts import SERIES, Line, heat, log_ticks, points, reliability, svg
from fitnets.report.folders import Folder
from fitnets.report.grouping import Problem, Row
from fitnets.report.parts import (
    best_of,
    detail,
    figures,
    line_of,
    mean_told,
    pictures,
    section,
    several_told,
    styles_of,
    teacher_level,
)

FEW = 10  # images in a bin of a reliability diagram; an accuracy over fewer is noise


def cost(problem: Problem) -> str:
    """Accuracy against what a network costs, with the teacher's line."""
    if not problem.students:
        return ""
    part = "validation" if problem.swept else "test"
    rows = best_of(problem.students)
    styles, panels = styles_of([*problem.teachers, *rows]), []
    for key, name in (("params", "parameters"), ("multiplications", "multiplications for one image")):
        lines = []
        sizes = [row.first.result[key] for row in rows]
        for row, size in zip(rows, sizes, strict=True):
            same = [other for other in rows if other.first.result[key] == size]
            shifted = size * 1.06 ** (same.index(row) - (len(same) - 1) / 2)
            lines.append(line_of(row.label, styles[row], [shifted], [row], part))
        for row in (row for row in problem.teachers if row.shown):
            lines.append(line_of(row.label, styles[row], [row.first.result[key]], [row], part))
        level = teacher_level(problem, part)
        draw = points(lines, name, f"{part} accuracy (%)", level and (level[0], ""), log=True, joined=False)
        panels.append(svg(in_millions(draw), f"{part} accuracy against {name}"))
    caption = (
        f"Accuracy on the {part} part against cost: {mean_told(problem.students)}. Dashed: the teacher. "
        f"Rows of equal cost are set side by side{several_told(len(problem.students))}."
    )
    return section("cost", "Accuracy against cost", figures(panels, caption))


def in_millions(draw: Callable[[Any], None]) -> Callable[[Any], None]:
    """The same with sizes told as 0.2 M."""

    def drawn(axes: Any) -> None:
        draw(axes)
        low, high = axes.get_xlim()
        axes.set_xlim(low / 1.15, high * 1.15)
        log_ticks(axes.xaxis)

    return drawn


def detailed(problem: Problem, name: str) -> list[Row]:
    """Rows whose test figures may be looked at and whose runs all have this detail."""
    return [row for row in problem.rows if row.shown and all(detail(run, name) is not None for run in row.runs)]


def calibration(problem: Problem) -> str:
    """Reliability diagram: is a network that says 80 % right in 80 of 100 cases?"""
    rows = detailed(problem, "reliability")
    styles, lines = styles_of(problem.rows), []
    for row in best_of(rows):
        bins = [pooled(values) for values in zip(*(bins_of(run) for run in row.runs), strict=True)]
        total = sum(count for _, _, count in bins)
        known = [
            (100 * confidence, 100 * accuracy, count / total) for confidence, accuracy, count in bins if count >= FEW
        ]
        ece = row.test("ece")
        label = row.label + (f", ECE {ece.told(100)} %" if ece else "")
        line = Line(label, styles[row], [x for x, _, _ in known], [y for _, y, _ in known])
        lines.append((line, [share for _, _, share in known]))
    if not lines:
        return ""
    caption = (
        "Reliability on the test part: accuracy of the answers by bin of confidence, counts pooled over seeds. "
        f"The larger a dot, the more images are in its bin (fewer than {FEW}: not drawn); below the dotted line a "
        f"network is too sure of itself. ECE: expected calibration error, {mean_told(rows)}{several_told(len(rows))}."
    )
    panel = svg(reliability(lines), "Accuracy against confidence", (4.6, 4.4))
    return section("calibration", "Calibration", figures([panel], caption))


def bins_of(run: Folder) -> list[tuple[float, float, float]]:
    found = detail(run, "reliability")
    return list(zip(found["confidence"], found["accuracy"], found["count"], strict=True))


def pooled(bins: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """One bin of several runs: means weighted by count."""
    total = sum(count for _, _, count in bins)
    if not total:
        return 0.0, 0.0, 0.0
    return sum(c * n for c, _, n in bins if n) / total, sum(a * n for _, a, n in bins if n) / total, total


def confusion(problem: Problem) -> str:
    """Which classes are taken for which, and how well each is known."""
    rows = detailed(problem, "confusion")
    panels = []
    for row in best_of(rows):
        matrices = [detail(run, "confusion") for run in row.runs]
        classes = range(len(matrices[0]))
        counts = [[sum(matrix[i][j] for matrix in matrices) for j in classes] for i in classes]
        names = [str(k) for k in classes]
        words = [[f"{count}" if count else "" for count in line] for line in counts]
        draw = heat(counts, words, names, names, "answered", "true class", color=SERIES[2], diagonal=True)
        title = f'<p class="over">{escape(row.label)} (n = {len(row.runs)})</p>'
        panels.append(title + svg(draw, f"Confusion matrix of {row.label}", (4.6, 4.2)))
    told_of = (
        "Confusion on the test part: images of a class (row) that were answered as another (column), counts summed "
        f"over seeds. Right answers are pale{several_told(len(rows))}."
    )
    per_class = best_of(detailed(problem, "per_class"))
    styles, lines = styles_of(problem.rows), []
    for row in per_class:
        values = list(zip(*(detail(run, "per_class") for run in row.runs), strict=True))
        known = [k for k, of_class in enumerate(values) if None not in of_class]  # some have no test image
        shift = 0.5 * ((per_class.index(row) + 0.5) / len(per_class) - 0.5)
        spread = [100 * stdev(values[k]) for k in known] if len(row.runs) > 1 else []
        means = [100 * mean(values[k]) for k in known]
        lines.append(Line(row.label, styles[row], [k + shift for k in known], means, spread))
    classwise = []
    count = len(detail(per_class[0].first, "per_class")) if per_class else 0
    if 0 < count <= 30:
        draw = with_class_ticks(points(lines, "class", "test accuracy (%)", joined=False), range(count))
        classwise = [svg(draw, "Test accuracy by class", (9.4, 3.2))]
    about = f"Test accuracy by class: {mean_told(per_class)}{several_told(len(detailed(problem, 'per_class')))}."
    by_class = figures(classwise, about, wide=True)
    return section("confusion", "Confusion", figures(panels, told_of), by_class)


def with_class_ticks(draw: Callable[[Any], None], ticks: Sequence[int]) -> Callable[[Any], None]:
    def drawn(axes: Any) -> None:
        draw(axes)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.grid(False, axis="x")

    return drawn


def hardest(problem: Problem) -> str:
    """Images that the networks get most wrong, and those where the student leaves its teacher."""
    rows = [row for row in problem.rows if row.shown]
    return section(
        "hardest",
        "Hardest images",
        pictures([(row, "hardest.png") for row in rows], "The images with the largest loss"),
        pictures([(row, "disagreed.png") for row in rows], "The images on which student and teacher disagree most"),
    )
