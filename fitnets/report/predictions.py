"""The page's sections on the answers to the test part: calibration, confusion, by class, the hardest images."""

from collections.abc import Callable, Sequence
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
MANY = 30  # classes; more have no figure by class
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
    rows, left_out = detailed(comparison, "confusion")
    panels = []
    for row in rows:
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
    return section("confusion", "Confusion", figures(panels, caption), by_class(comparison))


def by_class(comparison: Comparison) -> str:
    """Test accuracy by class, where they are few; a class without a test image has none."""
    rows, left_out = detailed(comparison, "per_class")
    count = len(details(rows[0], "per_class")[0]) if rows else 0
    if not 0 < count <= MANY:
        return ""

    def accuracy(row: Row, number: int) -> Mean | None:
        return row.over(lambda run: run.result["details"]["per_class"][number])

    lines = []
    for place, row in enumerate(rows):
        shift = 0.5 * ((place + 0.5) / len(rows) - 0.5)
        x = [number + shift for number in range(count)]
        lines.append(mean_line(row.label, comparison.styles[row], x, [accuracy(row, n) for n in range(count)]))
    names = short_names(rows[0], count)
    frame = Frame("class", "test accuracy (%)", ticks=range(count), tick_labels=names)
    panel = svg(points(lines, frame, joined=False), "Test accuracy by class", (9.4, 3.2))
    caption = f"Test accuracy by class: {mean_text(rows)}{left_out}."
    return figures([panel], caption, wide=True) + classes(rows, accuracy)


def classes(rows: Sequence[Row], accuracy: Callable[[Row, int], Mean | None]) -> str:
    """A line a class: its whole name, how many images it has in each part, how well each row knows it."""
    of_class = rows[0].first.result["data"]["classes"]
    columns = [
        {"title": "class", "numeric": True, "cells": [f"{number}" for number in range(len(of_class))]},
        {"title": "name", "numeric": False, "cells": list(of_class)},
    ]
    for part in ("train", "validation", "test"):
        counts = [f"{parts[part]:,}" for parts in of_class.values()]
        columns.append({"title": f"{part} images", "numeric": True, "cells": counts})
    for row in rows:
        reached = [accuracy(row, number) for number in range(len(of_class))]
        cells = [percent(figure) if figure else "–" for figure in reached]
        columns.append({"title": row.label, "numeric": True, "cells": cells})
    return PARTS.table(columns, [False] * len(of_class), "Images of each class, and test accuracy on it in %")


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
