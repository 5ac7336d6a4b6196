"""The page's sections with figures: sweeps, learning curves, hint stages, the curriculum, cost."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from fitnets.report import plots
from fitnets.report.charts import Frame, Line, curves, points, svg
from fitnets.report.columns import MULTS, PARAMS, Column, N
from fitnets.report.comparisons import Comparison
from fitnets.report.html import figures, mean_text, over, pictures, section, some_of, table
from fitnets.report.plots import AT_MOST, best_of, history, level_of, mean_line
from fitnets.report.rows import ACCURACY, R2, Mean, Row, baseline_of

BANDS = ", as lines and bands"
HINTS = [
    Column("hint ← guided", lambda row: " ← ".join(row.first.layers)),
    Column("hint loss", lambda row: row.validation("hint_loss"), partial(Mean.text, digits=None)),
    Column("R2", R2.of, partial(Mean.text, digits=3)),
    N,
    Column("reduction", lambda row: row.first.result.get("hint", {}).get("reduction")),
    Column("regressor", lambda row: row.first.result.get("hint", {}).get("regressor")),
]
TENTHS = {
    "shown": ("share of the images shown (%)", "How often each tenth of difficulty was shown"),
    "accuracy": ("accuracy (%)", "Training accuracy by tenth of difficulty"),
    "clean_accuracy": ("accuracy by clean labels (%)", "The same by clean labels"),
}


# -------------------------------------------------------------------------------- what was swept


def sweep(comparison: Comparison) -> str:
    """Validation accuracy against every number that was swept, and over the pairs of layers."""
    students, found = comparison.students, [pairs_of_layers(comparison)]
    for key in dict.fromkeys(key for row in students for key in row.at):
        if series := plots.series_over(students, key):
            draw = plots.over_numbers(series, key, level_of(comparison.teachers), ACCURACY, baseline_of(students))
            title = f"Validation accuracy against {key}"
            caption = f"{title}: {mean_text(students)}. Ringed: chosen, the best mean{some_of(len(series))}."
            found.append(figures([svg(draw, title)], caption))
    return section("sweep", "What was swept", *found)


def pairs_of_layers(comparison: Comparison) -> str:
    """Heat maps over (hint layer, guided layer): the student's validation accuracy, and the regressor's R2."""
    panels = []
    for rows, by in ((comparison.students, ACCURACY), (comparison.hints, R2)):
        hinted = {row: [step for step in row.first.steps if len(step.layers) == 2] for row in rows}
        pairs = {row: (steps[0].layers[0], steps[0].layers[1]) for row, steps in hinted.items() if steps}
        cells = plots.best_cells(pairs, by)
        if len(cells) > 1:
            best = max(cells, key=lambda pair: cells[pair]) if by is ACCURACY else None
            draw = plots.over_pairs(cells, by, Frame("guided layer (student)", "hint layer (teacher)"), best)
            height = max(1.6, 0.9 + 0.45 * len({hint for hint, _ in cells}))
            panels.append(over(by.title) + svg(draw, f"{by.title} by pair of layers", (4.6, height)))
    caption = (
        "By pair of layers, the mean over seeds. Where other settings vary too, a cell is its best on validation. "
        "Ringed: the best pair by the student's validation accuracy. R2 of the regressor tells how well a hint is "
        "predicted, not how much it helps."
    )
    return figures(panels, caption)


# ----------------------------------------------------------------------------------- over updates


def over_updates(lines: Sequence[Line], frame: Frame, title: str) -> list[str]:
    """A panel, where there is a line."""
    return [svg(curves(lines, frame), title)] if lines else []


def learning(comparison: Comparison) -> str:
    """Validation figures over updates, with bands over seeds."""
    rows, styles = best_of(comparison.students), comparison.styles
    accuracy = history(rows, styles, "val/accuracy", 100)
    late = []
    for line in accuracy:
        start = next(i for i, at in enumerate(line.x) if at >= line.x[-1] * 2 / 3)
        late.append(replace(line, x=line.x[start:], mean=line.mean[start:], spread=line.spread[start:]))
    frame = Frame("updates", ACCURACY.title, level_of(comparison.teachers))
    panels = over_updates(accuracy, frame, "Validation accuracy over updates")
    panels += over_updates(late, replace(frame, x="updates, last third"), "The same, last third")
    frame = Frame("updates", "validation NLL (nats)", log="y")
    panels += over_updates(history(rows, styles, "val/nll"), frame, "Validation NLL over updates")
    agreement = history(rows, styles, "match/agreement", 100)
    frame = Frame("updates", "agreement with the teacher %")
    panels += over_updates(agreement, frame, "Agreement with the teacher over updates")
    caption = (
        f"On the validation part: {mean_text(comparison.students, BANDS)}"
        f"{some_of(len(comparison.students))}. A KD stage after a hint stage begins where that ended."
    )
    return section("learning", "Learning curves", figures(panels, caption))


def hints(comparison: Comparison) -> str:
    """What the hint stages reached, how they got there, and their maps."""
    rows, styles = comparison.hints, comparison.styles
    if not rows:
        return ""
    loss, r2 = (history(rows[:AT_MOST], styles, metric) for metric in ("val/hint_loss", "val/r2"))
    frame = Frame("updates", "validation hint loss", log="y")
    panels = over_updates(loss, frame, "validation hint loss over updates")
    panels += over_updates(r2, Frame("updates", R2.title), "validation R2 over updates")
    caption = f"On the validation part: {mean_text(rows, BANDS)}."
    if len(rows) > AT_MOST:
        caption += f" Of {len(rows)} rows the first {AT_MOST} are drawn."
    name = Column("stage", lambda row: row.label)
    alone = len(rows) == 1 or all(row.label == HINTS[0].cell(row) for row in rows)  # the pair of layers says it all
    about = "At the kept epoch, the best on validation. Hint losses of different layers differ in scale; R2 has none"
    in_table = table(HINTS if alone else [name, *HINTS], rows, about)
    maps = pictures(rows, "hint_maps.png", "Hint maps of the teacher and what the regressor makes of the guided layer")
    return section("hints", "Hint stage", in_table, figures(panels, caption), maps)


def curriculum(comparison: Comparison) -> str:
    """How the pool grew and how hard it was, and what was easy and hard."""
    rows, styles = comparison.students, comparison.styles
    scored = dict.fromkeys(row.first.parents["score"] for row in rows if "score" in row.first.parents)
    scores = {run.name: Row("", [run], label=f"scored by {run.name}") for run in scored}
    alike = [row for row in rows if not scores or score_of(row) in scores]  # else tenths are not of one score
    pool = history(rows, styles, "curriculum/pool_fraction", 100)
    panels = over_updates(pool, Frame("updates", "pool, % of the training images"), "Size of the pool over updates")
    difficulty = [line for row in alike for line in difficulty_of(row, comparison)]
    frame = Frame("updates", "difficulty of the pool")
    panels += over_updates(difficulty, frame, "Difficulty of the pool over updates")
    caption = (
        f"The pool that batches are drawn from. Its size: {mean_text(rows, BANDS)}. "
        "Its difficulty: the mean over its images; bands: from their 10th to their 90th percentile."
    )
    over_pool = len(panels)
    for name, (axis, title) in TENTHS.items():
        lines = [line for row in alike for line in tenths_of(row, comparison, name)]
        if lines:
            panels.append(svg(points(lines, Frame("tenth of difficulty (1: easiest)", axis)), title))
    if len(panels) > over_pool:
        caption += " By tenth of difficulty: what was shown, and the accuracy on training images when last looked at."
    easy = pictures(list(scores.values()), "easiest_hardest.png", "The easiest and the hardest images by score")
    return section("curriculum", "Curriculum", figures(panels, caption), easy)


def score_of(row: Row) -> str | None:
    """The folder of the score that a row's figures are by: its own, or for a random order the ordered ones'."""
    config = row.first.config
    return (config.get("figures_by", {}) | config["parents"]).get("score")


def difficulty_of(row: Row, comparison: Comparison) -> list[Line]:
    """The mean difficulty of the pool, from its 10th to its 90th percentile; no line without a curriculum."""
    names = [f"curriculum/difficulty_{name}" for name in ("mean", "q10", "q90")]
    found = [line for name in names for line in history([row], comparison.styles, name)]
    if len(found) < len(names):
        return []
    middle, low, high = found
    return [replace(middle, spread=(np.subtract(middle.mean, low.mean), np.subtract(high.mean, middle.mean)))]


def tenths_of(row: Row, comparison: Comparison, name: str) -> list[Line]:
    """The figure for each tenth of difficulty, as it was last looked at; no line where one has none."""
    names = [f"curriculum/{name}_decile{number:02}" for number in range(1, 11)]
    found = [line for each in names for line in history([row], comparison.styles, each, 100)]
    if len(found) < len(names):
        return []
    spread = [line.spread[-1] for line in found if line.spread]
    return [replace(found[0], x=range(1, 11), mean=[line.mean[-1] for line in found], spread=spread)]


# ------------------------------------------------------------------------- cost and the test part


def cost(comparison: Comparison) -> str:
    """Accuracy against what a network costs, with the teacher's line."""
    if not comparison.students:
        return ""
    part = "validation" if comparison.swept else "test"
    panels = [
        cost_panel(comparison, part, "parameters", PARAMS.figure),
        cost_panel(comparison, part, "multiplications for one image", MULTS.figure),
    ]
    caption = (
        f"Accuracy on the {part} part against cost: {mean_text(comparison.students)}. Dashed: the teacher. "
        f"Rows of equal cost are set side by side{some_of(len(comparison.students))}."
    )
    return section("cost", "Accuracy against cost", figures(panels, caption))


def cost_panel(comparison: Comparison, part: str, name: str, cost_of: Callable[[Row], int]) -> str:
    """A point a row; rows of equal cost a little apart."""
    students = best_of(comparison.students)
    lines = []
    for row in [*students, *comparison.teachers]:
        same = [other for other in students if cost_of(other) == cost_of(row)] if row in students else [row]
        x = cost_of(row) * 1.06 ** (same.index(row) - (len(same) - 1) / 2)
        accuracy = row.validation("accuracy") if part == "validation" else row.test("accuracy")
        lines.append(mean_line(row.label, comparison.styles[row], [x], [accuracy]))
    levels = [line.mean[0] for line in lines[len(students) :] if line.mean]
    level = (levels[0], "") if len(levels) == 1 else None
    frame = Frame(name, f"{part} accuracy (%)", level, log="x")
    return svg(points(lines, frame, joined=False), f"{part} accuracy against {name}")
