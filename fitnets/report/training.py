"""Sections on training and validation: what was swept, learning curves, hint stages, curriculum."""

from collections.abc import Callable, Sequence
from html import escape
from statistics import mean, stdev
from typing import Any

from fitnets.report.charts import Line, Style, curves, heat, points, svg
from fitnets.report.folders import Folder
from fitnets.report.grouping import Problem, Row, arm_name, order, standing
from fitnets.report.parts import (
    DRAWN,
    best_of,
    figures,
    line_of,
    mean_told,
    pictures,
    section,
    several_told,
    styles_of,
    table,
    teacher_level,
    told,
)

BANDS = ", as lines and bands"


def sweep(problem: Problem) -> str:
    """Validation accuracy against every number that was swept, and over the pairs of layers."""
    return section("sweep", "What was swept", positions(problem), *swept_numbers(problem))


def swept_numbers(problem: Problem) -> list[str]:
    found = []
    titles = list(dict.fromkeys(title for row in problem.students for title in row.names))
    for title in titles:
        series: dict[str, list[Row]] = {}
        for row in problem.students:
            if title in row.names and is_number(row.names[title]):
                rest = [f"{key} {value}" for key, value in row.names.items() if key != title]
                series.setdefault(", ".join([arm_name(row.arm), *rest]), []).append(row)
        series = {label: rows for label, rows in series.items() if len({row.names[title] for row in rows}) > 1}
        if not series:
            continue
        best = sorted(series, key=lambda label: max(map(standing, series[label])), reverse=True)[:DRAWN]
        styles = styles_of([series[label][0] for label in best])
        lines, picked = [], max((row for label in best for row in series[label]), key=standing)
        for label in best:
            rows = sorted(series[label], key=lambda row: float(row.names[title]))
            lines.append(line_of(label, styles[series[label][0]], [float(row.names[title]) for row in rows], rows))
        values = sorted({x for line in lines for x in line.x})
        log = values[0] > 0 and values[-1] / values[0] >= 4
        level = teacher_level(problem, "validation")
        at = (float(picked.names[title]), 100 * standing(picked)[0])
        draw = with_ticks(points(lines, title, "validation accuracy (%)", level, log, ringed=at), values)
        caption = (
            f"Validation accuracy against {title}: {mean_told(problem.students)}. Ringed: chosen, the best mean"
            f"{several_told(len(series))}."
        )
        found.append(figures([svg(draw, f"Validation accuracy against {title}")], caption))
    return found


def with_ticks(draw: Callable[[Any], None], values: Sequence[float]) -> Callable[[Any], None]:
    """The same with ticks at the values that were tried, where they are few."""

    def drawn(axes: Any) -> None:
        draw(axes)
        if len(values) <= 8:
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.set_xticks([], minor=True)

    return drawn


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def positions(problem: Problem) -> str:
    """Heat maps over (hint layer, guided layer): the student's validation accuracy, and the regressor's R2."""
    accuracy = {row: row.validation("accuracy") for row in problem.students if row.arm == "fitnet"}
    r2 = {row: row.validation("r2") for row in problem.hints}
    panels = []
    for values, name, scale, digits in ((accuracy, "validation accuracy (%)", 100, 1), (r2, "validation R2", 1, 3)):
        best: dict[tuple[str, str], float] = {}
        for row, figure in values.items():
            pair = (row.settings.get("hint.teacher_layer", ""), row.settings.get("hint.student_layer", ""))
            if figure and (pair not in best or figure.mean > best[pair]):
                best[pair] = figure.mean
        if len(best) < 2:
            continue
        taught, guided = (sorted({str(pair[side]) for pair in best}, key=order) for side in (0, 1))
        grid = [[best.get((hint, layer)) for layer in guided] for hint in taught]
        top = max(best, key=lambda pair: best[pair])
        ring = (taught.index(top[0]), guided.index(top[1])) if name.startswith("validation acc") else None
        words = [["" if value is None else f"{scale * value:.{digits}f}" for value in line] for line in grid]
        words = [[word.replace("-", "−") for word in line] for line in words]
        draw = heat(grid, words, taught, guided, "guided layer (student)", "hint layer (teacher)", ringed=ring)
        height = max(1.6, 0.9 + 0.45 * len(taught))
        panels.append(f'<p class="over">{escape(name)}</p>' + svg(draw, f"{name} by pair of layers", (4.6, height)))
    caption = (
        "By pair of layers, the mean over seeds. Where other settings vary too, a cell is its best on validation. "
        "Ringed: the best pair by the student's validation accuracy. R2 of the regressor tells how well a hint is "
        "predicted, not how much it helps."
    )
    return figures(panels, caption)


def learning(problem: Problem) -> str:
    """Validation figures over updates, with bands over seeds."""
    rows = best_of(problem.students)
    styles, panels = styles_of(problem.students), []
    level = teacher_level(problem, "validation")
    accuracy = history(rows, styles, "val/accuracy", 100)
    if accuracy:
        late = [tail(line) for line in accuracy]
        panels.append(
            svg(curves(accuracy, "updates", "validation accuracy (%)", level), "Validation accuracy over updates")
        )
        panels.append(
            svg(curves(late, "updates, last third", "validation accuracy (%)", level), "The same, last third")
        )
    if nll := history(rows, styles, "val/nll", 1):
        panels.append(svg(curves(nll, "updates", "validation NLL (nats)", log=True), "Validation NLL over updates"))
    if agreement := history(rows, styles, "match/agreement", 100):
        draw = curves(agreement, "updates", "agreement with the teacher (%)")
        panels.append(svg(draw, "Agreement with the teacher over updates"))
    caption = (
        f"On the validation part: {mean_told(problem.students, BANDS)}"
        f"{several_told(len(problem.students))}. A KD stage after a hint stage begins where that ended."
    )
    return section("learning", "Learning curves", figures(panels, caption))


def history(rows: Sequence[Row], styles: dict[Row, Style], column: str, scale: float) -> list[Line]:
    """A line a row that has the column; as long as its shortest run (with patience they differ)."""
    lines = []
    for row in rows:
        runs = [run.parents.get("found", run) for run in row.runs]  # a retraining has no validation of its own
        found = [[(offset(run) + m["updates"], scale * m[column]) for m in run.metrics if column in m] for run in runs]
        length = min((len(curve) for curve in found), default=0)
        if not length:
            continue
        values = [[curve[i][1] for curve in found] for i in range(length)]
        spread = [stdev(v) for v in values] if len(found) > 1 else []
        lines.append(Line(row.label, styles[row], [at for at, _ in found[0][:length]], list(map(mean, values)), spread))
    return lines


def offset(run: Folder) -> float:
    before = run.parents.get("hint")
    return before.metrics[-1]["updates"] if before and before.metrics else 0


def tail(line: Line) -> Line:
    """Its last third by updates."""
    first = next(i for i, at in enumerate(line.x) if at >= line.x[-1] * 2 / 3)
    return Line(line.label, line.style, line.x[first:], line.mean[first:], line.spread[first:])


def hints(problem: Problem) -> str:
    """What the hint stages reached, how they got there, and their maps."""
    rows = problem.hints
    if not rows:
        return ""
    styles, lines = styles_of(rows), []
    for row in rows:
        facts = row.first.result["hint"]
        pair = f"{facts['hint_layer']} ← {facts['guided_layer']}"
        loss, r2 = told(row.validation("hint_loss"), 1, None), told(row.validation("r2"), 1, 3)
        lines.append([row.label, pair, loss, r2, str(len(row.runs)), str(facts["reduction"]), str(facts["regressor"])])
    head = ["stage", "hint ← guided", "hint loss", "R2", "n", "reduction", "regressor"]
    if len(rows) == 1 or all(line[0] == line[1] for line in lines):  # the pair of layers says it all
        head, lines = head[1:], [line[1:] for line in lines]
    drawn = rows[:DRAWN]
    panels = []
    for column, name, log in (("val/hint_loss", "validation hint loss", True), ("val/r2", "validation R2", False)):
        if found := history(drawn, styles, column, 1):
            panels.append(svg(curves(found, "updates", name, log=log), f"{name} over updates"))
    caption = f"On the validation part: {mean_told(rows, BANDS)}."
    if len(rows) > DRAWN:
        caption += f" Of {len(rows)} rows the first {DRAWN} are drawn."
    about = (
        "At the kept epoch, the best on validation. Hint losses of different layers have different scales; R2 has none."
    )
    maps = pictures(
        [(row, "hint_maps.png") for row in rows],
        "Hint maps of the teacher and what the regressor makes of the guided layer",
    )
    return section("hints", "Hint stage", table(head, lines, about), figures(panels, caption), maps)


DECILES = {
    "shown": ("share of the images shown (%)", "How often each tenth of difficulty was shown"),
    "accuracy": ("accuracy (%)", "Training accuracy by tenth of difficulty"),
    "clean_accuracy": ("accuracy by clean labels (%)", "The same by clean labels"),
}


def score_of(row: Row) -> str | None:
    """The folder of the score that a row's figures are by: its own, or for a random order the ordered ones'."""
    run = row.first
    return run.parents["score"].name if "score" in run.parents else run.config.get("figures_by", {}).get("score")


def by_decile(rows: Sequence[Row], styles: dict[Row, Style], name: str) -> list[Line]:
    """A line a row that has a figure for each tenth of difficulty, as it was last noted."""
    lines = []
    for row in rows:
        ends = [history([row], styles, f"curriculum/{name}_decile{number:02}", 100) for number in range(1, 11)]
        if all(ends):
            spread = [line.spread[-1] for (line,) in ends if line.spread]
            lines.append(Line(row.label, styles[row], range(1, 11), [line.mean[-1] for (line,) in ends], spread))
    return lines


def curriculum(problem: Problem) -> str:
    """How the pool grew and how hard it was, and what was easy and hard."""
    rows = problem.students
    styles, panels = styles_of(rows), []
    scores = {row.first.parents["score"].name for row in rows if "score" in row.first.parents}
    alike = [row for row in rows if not scores or score_of(row) in scores]  # else tenths are not of one score
    if pool := history(rows, styles, "curriculum/pool_fraction", 100):
        panels.append(svg(curves(pool, "updates", "pool (% of the training images)"), "Size of the pool over updates"))
    difficulty = []
    for row in alike:
        middle, low, high = (
            history([row], styles, f"curriculum/difficulty_{part}", 1) for part in ("mean", "q10", "q90")
        )
        if middle:
            difficulty.append((middle[0], low[0].mean if low else None, high[0].mean if high else None))
    if difficulty:

        def draw(axes: Any) -> None:
            for line, low, high in difficulty:
                look = {"color": line.style.color, "alpha": line.style.alpha}
                axes.plot(line.x, line.mean, linestyle=line.style.dash, label=line.label, **look)
                if low and high:
                    axes.fill_between(line.x, low, high, color=line.style.color, alpha=0.15, linewidth=0)
            axes.set(xlabel="updates", ylabel="difficulty of the pool")

        panels.append(svg(draw, "Difficulty of the pool over updates"))
    tenths = {name: by_decile(alike, styles, name) for name in DECILES}
    for name, (axis, about) in DECILES.items():
        if lines := tenths[name]:
            panels.append(svg(points(lines, "tenth of difficulty (1: easiest)", axis), about))
    caption = (
        f"The pool that batches are drawn from. Its size: {mean_told(rows, BANDS)}. "
        "Its difficulty: the mean over its images; bands: from their 10th to their 90th percentile."
    )
    if any(tenths.values()):
        caption += " By tenth of difficulty: what was shown, and the accuracy on training images when last looked at."
    scored = [(row, row.first.parents["score"]) for row in rows if "score" in row.first.parents]
    shown = pictures([(row, "curriculum.png") for row in rows], "Pool and difficulty of one run")
    strips = {score.name: Row(row.arm, {}, [score], label=f"scored by {score.name}") for row, score in scored}
    easy = pictures(
        [(row, "easiest_hardest.png") for row in strips.values()], "The easiest and the hardest images by score"
    )
    return section("curriculum", "Curriculum", figures(panels, caption), shown, easy)
