"""Rows as drawings, for the page and beside a table: over updates, over what was varied, over pairs of layers."""

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile

import numpy as np

from fitnets.report.charts import DASHES, MARKERS, SERIES, Draw, Frame, Grid, Line, Style, curves, heat, points, ranked
from fitnets.report.folders import Folder
from fitnets.report.rows import ACCURACY, Criterion, Mean, Row, baseline_of, count_text, is_number, natural, standing

Panels = tuple[list[Draw], tuple[float, float]]  # of one file, and its size in inches
Series = dict[str, list[Row]]  # by what tells them apart
Pair = tuple[str, str]  # the values of two keys
Level = tuple[float, str]  # a line across, and its name
AT_MOST = 8  # rows in one figure; more cannot be told apart
OTHERS = len(SERIES) - 2  # colours beside the baseline's and the teacher's


def styles_of(rows: Sequence[Row], baseline: Row | None = None) -> dict[Row, Style]:
    """A colour an arm in the order of the rows, grey for the baseline's; rows of one arm are paler and darker."""
    arms: dict[str, list[Row]] = {baseline.arm: []} if baseline else {}
    for row in rows:
        arms.setdefault(row.arm, []).append(row)
    found = {}
    for number, of_arm in enumerate(arms.values(), start=0 if baseline else 1):
        color = SERIES[1 + (number - 1) % OTHERS] if number else SERIES[0]
        for place, row in enumerate(of_arm):
            alpha = 1.0 if len(of_arm) == 1 else 0.3 + 0.7 * (place + 1) / len(of_arm)
            dash = DASHES[(max(number - 1, 0) // OTHERS + place) % len(DASHES)]
            found[row] = Style(color, alpha, dash, MARKERS[(number + place) % len(MARKERS)])
    return found


def best_of(rows: Sequence[Row]) -> list[Row]:
    """As many of the best on validation as one figure can tell apart, in the order of the rows."""
    best = sorted(rows, key=standing, reverse=True)[:AT_MOST]
    return [row for row in rows if row in best]


def history(rows: Sequence[Row], styles: Mapping[Row, Style], metric: str, scale: float = 1.0) -> list[Line]:
    """A line a row that has the metric, over the student's updates; as long as its shortest run (patience)."""
    lines = []
    for row in rows:
        curves = [finite(_curve(run.search, metric, scale)) for run in row.runs]
        length = min(len(curve) for curve in curves)
        if length:
            values = np.array([[value for _, value in curve[:length]] for curve in curves])
            spread = values.std(0, ddof=1).tolist() if len(curves) > 1 else []
            updates = [at for at, _ in curves[0][:length]]
            lines.append(Line(row.label, styles[row], updates, values.mean(0).tolist(), spread))
    return lines


def _curve(run: Folder, metric: str, scale: float) -> list[tuple[float, float]]:
    """(updates, value) by epoch; a later step goes on where the one before it ended."""
    before = sum(step.metrics[-1]["updates"] for step in run.steps[:-1] if step.metrics)
    return [(before + epoch["updates"], scale * epoch[metric]) for epoch in run.metrics if metric in epoch]


def finite(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A curve up to where it diverges."""
    return list(takewhile(lambda point: math.isfinite(point[1]), curve))


def mean_line(label: str, style: Style, x: Sequence[float], figures: Sequence[Mean | None], scale: float = 100) -> Line:
    """A figure at each x, without those that are not there; bars only where every point has a spread."""
    known = [(at, figure) for at, figure in zip(x, figures, strict=True) if figure]
    spread = [scale * figure.sd for _, figure in known if figure.sd is not None]
    middles = [scale * figure.mean for _, figure in known]
    return Line(label, style, [at for at, _ in known], middles, spread if len(spread) == len(middles) else [])


def level_of(teachers: Sequence[Row], by: Criterion = ACCURACY) -> Level | None:
    """What the one teacher reached on validation, and what its line is called; None where there are several."""
    figure = by.of(teachers[0]) if len(teachers) == 1 else None
    return (by.scale * figure.mean, f"teacher {by.scale * figure.mean:.2f}") if figure else None


def of_arms(rows: Sequence[Row], teachers: Sequence[Row]) -> Panels:
    """Validation accuracy of the arms against updates, and what their hint stages reached where there are any."""
    styles = styles_of(rows, baseline_of(rows))
    frame = Frame("updates of the student", ACCURACY.title, level_of(teachers))
    draws = [curves(history(rows, styles, "val/accuracy", 100), frame)]
    firsts: dict[str, Row] = {}  # arms may share their first steps
    for row in rows:
        first = Row(row.arm, [run.steps[0] for run in row.runs], label=row.label)
        styles[first] = styles[row]
        firsts.setdefault(first.first.name, first)
    if hints := history(list(firsts.values()), styles, "val/hint_loss"):
        draws.append(curves(hints, Frame("updates of the student", "validation hint loss", log="y")))
    return draws, (10, 4) if len(draws) > 1 else (6.4, 4)


def of_settings(rows: Sequence[Row], teachers: Sequence[Row], by: Criterion, grid: bool) -> Panels:
    """One swept key with numbers: a line; two keys: a heat map (where `grid`); else a mean a line."""
    keys, level = list(rows[0].at), level_of(teachers, by)
    reached = f"{by.title}, {count_text(rows)}"
    if len(keys) == 2 and grid:
        pairs = {row: (row.at[keys[0]], row.at[keys[1]]) for row in rows}
        cells = best_cells(pairs, by)
        chosen = next((pair for row, pair in pairs.items() if row.chosen), None)
        size = (3.6 + 0.62 * len({pair[1] for pair in cells}), 1.9 + 0.5 * len({pair[0] for pair in cells}))
        return [over_pairs(cells, by, Frame(f"{keys[1]}\n{reached}", keys[0]), chosen)], size
    series = series_over(rows, keys[0]) if len(keys) == 1 else {}
    if series:
        return [over_numbers(series, keys[0], level, by)], (6.4, 4.0)
    lines = []
    for row in rows:
        label = "  ".join(row.at.values()) + ("  (chosen)" if row.chosen else "")
        lines.append(mean_line(label, Style(SERIES[2 if row.chosen else 1]), [0], [by.of(row)], by.scale))
    return [ranked(lines, Frame(reached, "", level))], (6.4, 1.6 + 0.32 * len(rows))


def series_over(rows: Sequence[Row], key: str) -> Series:
    """Rows by size of a setting that has several numbers; a series for each of the other settings."""
    series: Series = {}
    for row in rows:
        if is_number(row.at.get(key, "")):
            rest = [f"{other} {value}" for other, value in row.at.items() if other not in (key, "arm")]
            series.setdefault(", ".join([row.arm, *rest]), []).append(row)
    for found in series.values():
        found.sort(key=lambda row: float(row.at[key]))
    return {label: found for label, found in series.items() if len({row.at[key] for row in found}) > 1}


def over_numbers(series: Series, key: str, level: Level | None, by: Criterion, baseline: Row | None = None) -> Draw:
    """Validation against one setting, a line a series, the best point ringed."""
    best = {label: max(rows, key=lambda row: standing(row, by)) for label, rows in series.items()}
    labels = sorted(best, key=lambda label: standing(best[label], by), reverse=True)[:AT_MOST]
    styles = styles_of([best[label] for label in labels], baseline)
    lines = []
    for label in labels:
        x, reached = [float(row.at[key]) for row in series[label]], [by.of(row) for row in series[label]]
        lines.append(mean_line(label, styles[best[label]], x, reached, by.scale))
    values = sorted({x for line in lines for x in line.x})
    wide = values[0] > 0 and values[-1] / values[0] >= 4  # as spread over orders of magnitude as it was typed
    frame = Frame(key, by.title, level, "x" if wide else "", values if len(values) <= 8 else ())
    top = best[labels[0]]
    highest = by.of(top)
    return points(lines, frame, ringed=(float(top.at[key]), by.scale * highest.mean) if highest else None)


def best_cells(pairs: Mapping[Row, Pair], by: Criterion) -> dict[Pair, float]:
    """The best figure for each pair of values, in the order of the rows."""
    cells: dict[Pair, float] = {}
    for row, pair in pairs.items():
        if figure := by.of(row):
            cells[pair] = by.sign * max(by.sign * figure.mean, by.sign * cells.get(pair, figure.mean))
    return cells


def over_pairs(cells: Mapping[Pair, float], by: Criterion, frame: Frame, chosen: Pair | None = None) -> Draw:
    """The first value downwards, the second to the right; what was not run stays empty, the chosen cell is ringed."""
    down, across = (list(dict.fromkeys(pair[side] for pair in cells)) for side in (0, 1))
    for values in (down, across):
        if any(value[-1:].isdigit() for value in values):  # names, such as those of arms, stay as they came
            values.sort(key=natural)
    place = {(i, j): (down.index(i), across.index(j)) for i, j in cells}
    scaled = {place[pair]: by.scale * value for pair, value in cells.items()}
    return heat(Grid(scaled, down, across, 1 if by.scale == 100 else 3, place[chosen] if chosen else None), frame)
