"""The page's sections on the answers to the test part: calibration, confusion, by class, the hardest images."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np

from fitnets.report.charts import Frame, Grid, Line, heat, points, reliability, svg
from fitnets.report.columns import percent
from fitnets.report.comparisons import Comparison
from fitnets.report.html import PARTS, figures, mean_text, over, pictures, section, some_of
from fitnets.report.plots import best_of, mean_line
from fitnets.report.rows import Mean, Row

FEW = 10  # images in a bin of a reliability diagram; an accuracy over fewer is noise
BIN = ("count", "confidence", "accuracy")  # what is kept of one; an empty bin has zeros
MANY = 30  # classes; more have no matrix and no figure by class
WORST = 50  # of many classes, those that are listed
WORST_PAIRS = 10  # of classes that are taken for each other
NAMED = 12  # classes at an axis; more are numbered
LONG = 14  # letters of a name there


def details(row: Row, name: str) -> list[Any]:
    """This detail of each of its runs; none unless each has it and the row's test figures may be looked at."""
    found = [run.result.get("details", {}).get(name) for run in row.runs]
    return found if row.chosen and None not in found else []


def detailed(comparison: Comparison, name: str) -> tuple[list[Row], str]:
    """The rows that are drawn of those with this detail, and what a caption says of the others."""
    rows = [row for row in comparison.rows if details(row, name)]
    return best_of(rows), some_of(len(rows))


def calibration(comparison: Comparison) -> str:
    """Reliability diagram: is a network that says 80 % right in 80 of 100 cases?"""
    rows, left_out = detailed(comparison, "reliability")
    if not rows:
        return ""
    lines, shares = [], []
    for row in rows:
        bins = details(row, "reliability")
        count, confidence, accuracy = (np.array([of_run[key] for of_run in bins]) for key in BIN)  # runs x bins
        total = count.sum(0)  # runs are pooled by count
        known = total >= FEW
        x = 100 * (count * confidence).sum(0)[known] / total[known]
        y = 100 * (count * accuracy).sum(0)[known] / total[known]
        ece = row.test("ece")
        label = row.label + (f", ECE {ece.text(100)} %" if ece else "")
        lines.append(Line(label, comparison.styles[row], x.tolist(), y.tolist()))
        shares.append((total[known] / total.sum()).tolist())
    caption = (
        "Reliability on the test part: accuracy of the answers by bin of confidence, counts pooled over seeds. "
        f"The larger a dot, the more images are in its bin (fewer than {FEW}: not drawn); below the dotted line a "
        f"network is too sure of itself. ECE: expected calibration error, {mean_text(rows)}{left_out}."
    )
    panel = svg(reliability(lines, shares), "Accuracy against confidence", (4.6, 4.4))
    return section("calibration", "Calibration", figures([panel], caption))


def confusion(comparison: Comparison) -> str:
    """Which classes are taken for which, and how well each is known."""
    return section("confusion", "Confusion", matrices(comparison), pairs(comparison), by_class(comparison))


def matrices(comparison: Comparison) -> str:
    """Confusion matrices, where classes are so few that one can be read."""
    rows, left_out = detailed(comparison, "confusion")
    panels = []
    for row in rows if count_of(rows) <= MANY else []:
        counts = np.sum(details(row, "confusion"), axis=0)
        names = short_names(row, len(counts))
        cells = {(i, j): float(counts[i, j]) for i, j in np.argwhere(counts).tolist()}
        draw = heat(Grid(cells, names, names, confusion=True), Frame("answered", "true class"))
        title = over(f"{row.label} (n = {len(row.runs)})")
        panels.append(title + svg(draw, f"Confusion matrix of {row.label}", (4.6, 4.2)))
    caption = (
        "Confusion on the test part: images of a class (row) that were answered as another (column), counts summed "
        f"over seeds. Right answers are pale{left_out}."
    )
    return figures(panels, caption)


def pairs(comparison: Comparison) -> str:
    """By name, which class is taken for which other one most often; where classes are few the matrix says it."""
    rows, left_out = detailed(comparison, "confused")
    lines = [(row, pair) for row in rows for pair in row.first.result["details"]["confused"][:WORST_PAIRS]]
    if count_of(rows) <= NAMED or not lines:
        return ""
    of_class = rows[0].first.result["data"]["classes"]
    columns = [
        {"title": "arm", "numeric": False, "cells": [row.label for row, _ in lines]},
        {"title": "class", "numeric": False, "cells": [pair["class"] for _, pair in lines]},
        {"title": "answered", "numeric": False, "cells": [pair["answered"] for _, pair in lines]},
        {"title": "images", "numeric": True, "cells": [f"{pair['images']:,}" for _, pair in lines]},
        {"title": "of", "numeric": True, "cells": [f"{of_class[pair['class']]['test']:,}" for _, pair in lines]},
    ]
    seeds = ", ".join(f"seed {seed}" for seed in sorted({row.first.config["seed"] for row in rows}))
    no_matrix = "" if count_of(rows) <= MANY else f"; a matrix of more than {MANY} classes could not be read"
    caption = f"The {WORST_PAIRS} most frequent wrong answers on the test part ({seeds}){no_matrix}{left_out}"
    return PARTS.table(columns, [False] * len(lines), caption)


def count_of(rows: Sequence[Row]) -> int:
    """How many classes there are."""
    return len(rows[0].first.result["data"]["classes"]) if rows else 0


def by_class(comparison: Comparison) -> str:
    """Test accuracy by class, the worst ones where they are many; a class without a test image has none."""
    rows, left_out = detailed(comparison, "per_class")
    if not rows:
        return ""
    known = {row: accuracies(row) for row in rows}
    if count_of(rows) > MANY:
        return classes(known)
    lines = []
    for place, row in enumerate(rows):
        shift = 0.5 * ((place + 0.5) / len(rows) - 0.5)
        x = [number + shift for number in range(count_of(rows))]
        lines.append(mean_line(row.label, comparison.styles[row], x, known[row]))
    names = short_names(rows[0], count_of(rows))
    frame = Frame("class", "test accuracy (%)", ticks=range(len(names)), tick_labels=names)
    panel = svg(points(lines, frame, joined=False), "Test accuracy by class", (9.4, 3.2))
    caption = f"Test accuracy by class: {mean_text(rows)}{left_out}."
    return figures([panel], caption, wide=True) + classes(known)


def accuracies(row: Row) -> list[Mean | None]:
    """Its test accuracy on each class."""
    return [
        Mean.of(of_class) if None not in of_class else None for of_class in zip(*details(row, "per_class"), strict=True)
    ]


def classes(known: Mapping[Row, Sequence[Mean | None]]) -> str:
    """A line a class: its whole name, how many images it has in each part, how well each row knows it.

    Of many classes the worst: those with the lowest mean over the rows.
    """
    rows = list(known)
    of_class = rows[0].first.result["data"]["classes"]
    shown, caption = list(range(len(of_class))), "Images of each class, and test accuracy on it in %"
    if len(of_class) > MANY:
        middle = [[figure.mean for figure in figures_of if figure] for figures_of in zip(*known.values(), strict=True)]
        shown = sorted([number for number in shown if middle[number]], key=lambda number: mean(middle[number]))[:WORST]
        caption += f", of the {len(shown)} classes of {len(of_class):,} that are known worst"
    names = list(of_class)
    parts = [of_class[names[number]] for number in shown]
    columns = [
        {"title": "class", "numeric": True, "cells": [f"{number}" for number in shown]},
        {"title": "name", "numeric": False, "cells": [names[number] for number in shown]},
    ]
    for part in ("train", "validation", "test"):
        columns.append({"title": f"{part} images", "numeric": True, "cells": [f"{of[part]:,}" for of in parts]})
    for row in rows:
        reached = [known[row][number] for number in shown]
        cells = [percent(figure) if figure else "–" for figure in reached]
        columns.append({"title": row.label, "numeric": True, "cells": cells})
    return PARTS.table(columns, [False] * len(shown), caption)


def short_names(row: Row, count: int) -> list[str]:
    """The classes as they stand at an axis: their names where these are few, else their numbers."""
    names = list(row.first.result["data"]["classes"])
    if count > NAMED:
        return [str(number) for number in range(count)]
    return [name if len(name) <= LONG else f"{name[: LONG - 1]}…" for name in names]


def hardest(comparison: Comparison) -> str:
    """Images that the networks get most wrong, and those where the student leaves its teacher."""
    rows = [row for row in comparison.rows if row.chosen]
    return section(
        "hardest",
        "Hardest images",
        pictures(rows, "hardest.png", "The images with the largest loss"),
        pictures(rows, "disagreed.png", "The images on which student and teacher disagree most"),
    )
