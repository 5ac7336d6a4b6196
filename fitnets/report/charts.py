"""Every figure of the reports: drawn once, saved as the page's SVG or as the PNG beside a table.

Functions such as `curves` return what draws on a pair of axes; `svg` and `png` make figures of it.
"""

import io
import itertools
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from markupsafe import Markup, escape

INK, MUTED, GRID, PAPER = "#1a1b1e", "#5c6066", "#dddddd", "#ffffff"
# Okabe and Ito's colours, which the colour-blind tell apart; the first is for a baseline, the last one for a teacher
SERIES = ("#7a7a7a", "#0072b2", "#d55e00", "#009e73", "#b5629b", "#b8860b", "#3f9fd0", "#8c564b", "#333333")
# What a colour is on the page, which has a light and a dark theme
THEME = {INK: "currentColor", MUTED: f"var(--muted, {MUTED})", GRID: f"var(--line, {GRID})"}
THEME |= {PAPER: f"var(--paper, {PAPER})"} | {color: f"var(--s{n}, {color})" for n, color in enumerate(SERIES)}
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
LOOK = Path(__file__).with_name("look.mplstyle")
ACROSS = 5  # panels in a row
POINTS = 300  # of a curve, which is some 300 pixels wide
SIZE = (4.6, 3.3)  # inches: two stand side by side on a desk, one on a phone
_number = itertools.count()
Draw = Callable[[Any], None]  # draws on matplotlib's Axes


@dataclass(frozen=True)
class Style:
    """How a row looks in every figure."""

    color: str = SERIES[1]
    alpha: float = 1.0
    dash: Any = "-"
    marker: str = "o"


@dataclass(frozen=True)
class Line:
    """A mean over runs at each x; its spread, or how far it goes down and up (2, x), where there are several runs."""

    label: str
    style: Style
    x: Sequence[float]
    mean: Sequence[float]
    spread: Sequence[Any] = ()


@dataclass(frozen=True)
class Frame:
    """What stands round the data: names of the axes, a level across with its name, ticks of x."""

    x: str
    y: str
    level: tuple[float, str] | None = None
    log: str = ""  # the axis that is logarithmic: "x" or "y"
    ticks: Sequence[float] = ()
    tick_labels: Sequence[str] = ()  # where they are no numbers
    title: str = ""

    def put_on(self, axes: Any) -> None:
        if self.level:
            axes.axhline(self.level[0], color=SERIES[-1], linestyle=DASHES[1], linewidth=1, label=self.level[1])
        axes.set(xlabel=self.x, ylabel=self.y)
        if self.log == "x":
            axes.set_xscale("log")
            low, high = axes.get_xlim()
            axes.set_xlim(low / 1.15, high * 1.15)
            log_ticks(axes.xaxis)
        if self.ticks:
            axes.set_xticks(self.ticks, self.tick_labels or [f"{value:g}" for value in self.ticks])
            axes.set_xticks([], minor=True)


def svg(draw: Draw, about: str, size: tuple[float, float] = SIZE) -> str:
    """One figure with one pair of axes as inline SVG. `about` says what it is to who cannot see it."""
    from matplotlib import style

    file = io.StringIO()
    hashed = {"svg.hashsalt": f"{about} {next(_number)}"}  # figures of one page share no names
    with style.context([LOOK, hashed]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the page's fonts have them
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        _figure([draw], size).savefig(file, format="svg", transparent=True, metadata=nothing)
    return themed(file.getvalue(), about)


def png(path: Path, draws: Sequence[Draw], title: str, size: tuple[float, float]) -> None:
    """One file with a panel a drawing, in rows of ACROSS; of two the first is wider."""
    from matplotlib import style

    with style.context(LOOK):
        figure = _figure(draws, size, "lower")
        figure.suptitle("\n".join(wrap(title, round(11 * size[0]))))
        figure.savefig(path, dpi=150)


def _figure(draws: Sequence[Draw], size: tuple[float, float], side: str = "upper") -> Any:
    """The drawings in rows of ACROSS, and the legend of the first on a `side` of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    across = min(ACROSS, len(draws))
    widths = [3, 2] if across == 2 else [1] * across
    panels = figure.subplots(-(-len(draws) // across), across, squeeze=False, width_ratios=widths).flat
    for axes in panels[len(draws) :]:
        axes.remove()
    for draw, axes in zip(draws, panels, strict=False):
        draw(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if labels:
        columns = legend_columns([len(label) for label in labels], 72 * size[0])
        place: Any = f"outside {side} left"
        figure.legend(handles, labels, loc=place, ncols=columns)
        figure.set_figheight(size[1] + 0.18 * (math.ceil(len(labels) / columns) - 1))  # the axes keep their height
    return figure


def legend_columns(lengths: Sequence[int], width: float) -> int:
    """How many columns of a legend fit into `width` points, by the lengths of its labels."""
    return max(1, min(len(lengths), int((width - 10) // (28 + 4.6 * max(lengths)))))


def themed(text: str, about: str) -> str:
    """matplotlib's SVG made fit for a page: its own names, the page's fonts and colours, no word on the web."""
    head = f'role="img" aria-label="{escape(about)}"'
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg[^>]*(viewBox="[^"]*")[^>]*>', lambda found: f"<svg {found[1]} {head}>", text, count=1)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r"font-family:[^;\"]*;? ?|'DejaVu Sans'[^;\"]*", "", text)
    text = re.sub("|".join(THEME), lambda found: THEME[found[0]], text)
    return Markup(re.sub(r"\s*\n\s*", " ", text).strip())


def curves(lines: Sequence[Line], frame: Frame) -> Draw:
    """Means over runs with bands of their spread."""
    shade = 0.18 if len(lines) <= 4 else 0.1

    def draw(axes: Any) -> None:
        for line in lines:
            color, alpha, drawn = line.style.color, line.style.alpha, telling(line.mean)
            x, middle = np.asarray(line.x)[drawn], np.asarray(line.mean)[drawn]
            axes.plot(x, middle, color=color, alpha=alpha, linestyle=line.style.dash, label=line.label)
            if line.spread:
                down, up = np.broadcast_to(line.spread, (2, len(line.x)))[:, drawn]
                axes.fill_between(x, middle - down, middle + up, color=color, alpha=shade * alpha, linewidth=0)
        frame.put_on(axes)
        values = [value for line in lines for value in line.mean]
        if frame.log == "y" and min(values, default=0) > 0:
            axes.set_yscale("log")
            axes.set_ylim(0.8 * min(values), 1.25 * max(values))  # a band may go below zero
            log_ticks(axes.yaxis)

    return draw


def telling(values: Sequence[float]) -> list[int]:
    """Which points of a curve are drawn: of more than POINTS both ends, and the lowest and highest of each stretch."""
    if len(values) <= POINTS:
        return list(range(len(values)))
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), POINTS // 2 - 1):
        kept |= {int(stretch[pick(np.take(values, stretch))]) for pick in (np.argmin, np.argmax)}
    return sorted(kept)


def points(lines: Sequence[Line], frame: Frame, joined: bool = True, ringed: tuple[float, float] | None = None) -> Draw:
    """Means with error bars; `joined` where x is a scale that was swept, `ringed` the point that was chosen."""

    def draw(axes: Any) -> None:
        for line in lines:
            look = {"color": line.style.color, "alpha": line.style.alpha}
            dash = line.style.dash if joined else "none"
            axes.plot(line.x, line.mean, linestyle=dash, marker=line.style.marker, ms=5, label=line.label, **look)
            axes.errorbar(line.x, line.mean, line.spread or None, fmt="none", capsize=3, elinewidth=1, **look)
        frame.put_on(axes)
        if ringed:
            axes.plot(*ringed, "o", markersize=12, markerfacecolor="none", markeredgecolor=INK, label="chosen")

    return draw


def ranked(lines: Sequence[Line], frame: Frame) -> Draw:
    """A mean a line with its error bar, one below the other, each named at the side; a level stands upright."""

    def draw(axes: Any) -> None:
        for y, line in enumerate(lines):
            axes.errorbar(line.mean, [y], xerr=line.spread or None, fmt="o", color=line.style.color, capsize=3)
        if frame.level:
            axes.axvline(frame.level[0], color=SERIES[-1], linestyle=DASHES[1], linewidth=1, label=frame.level[1])
        axes.set_yticks(range(len(lines)), [line.label for line in lines])
        axes.invert_yaxis()
        axes.set(xlabel=frame.x, ylabel=frame.y, title=frame.title)

    return draw


def reliability(lines: Sequence[Line], shares: Sequence[Sequence[float]]) -> Draw:
    """Accuracy against confidence by bin; the larger a dot, the more of the images (a fraction) are in its bin."""

    def draw(axes: Any) -> None:
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.9, linestyle=DASHES[2])
        for line, share in zip(lines, shares, strict=True):
            look = {"color": line.style.color, "alpha": line.style.alpha}
            axes.plot(line.x, line.mean, linewidth=0.9, linestyle=line.style.dash, label=line.label, **look)
            axes.scatter(line.x, line.mean, s=[6 + 90 * each for each in share], linewidths=0, **look)
        axes.set(xlabel="confidence (%)", ylabel="accuracy (%)", xlim=(-3, 103), ylim=(-3, 103))

    return draw


@dataclass(frozen=True)
class Grid:
    """Values by row and column, as far as there are any. `ringed`: the cell that was chosen."""

    cells: Mapping[tuple[int, int], float]
    rows: Sequence[str]
    columns: Sequence[str]
    digits: int = 0  # after the point
    ringed: tuple[int, int] | None = None
    confusion: bool = False  # whose right answers, on the diagonal, stay pale


def heat(grid: Grid, frame: Frame) -> Draw:
    """Cells, the darker the larger their value, with the number where there is room."""
    across, down = len(grid.columns), len(grid.rows)
    color = SERIES[2] if grid.confusion else SERIES[1]
    known = [value for (i, j), value in grid.cells.items() if not (grid.confusion and i == j)]
    low, high = 0.0 if grid.confusion else min(known, default=0.0), max(known, default=1.0)

    def square(axes: Any, cell: tuple[int, int], **look: Any) -> None:
        from matplotlib.patches import Rectangle

        axes.add_patch(Rectangle((cell[1] - 0.48, cell[0] - 0.48), 0.96, 0.96, **look))

    def draw(axes: Any) -> None:
        axes.grid(False)
        for (i, j), value in grid.cells.items():
            right = grid.confusion and i == j
            depth = 0.95 if high == low else 0.1 + 0.85 * (value - low) / (high - low)
            square(axes, (i, j), color=GRID if right else color, alpha=1.0 if right else depth, lw=0)
            if across <= 12:
                ink = PAPER if depth > 0.6 and not right else INK
                text, size = f"{value:.{grid.digits}f}".replace("-", "−"), 8.5 if across <= 6 else 7
                axes.text(j, i, text, ha="center", va="center", fontsize=size, color=ink)
        if grid.ringed:
            square(axes, grid.ringed, fill=False, edgecolor=INK, lw=1.8)
        axes.set(xlim=(-0.55, across - 0.45), ylim=(down - 0.45, -0.55), xlabel=frame.x, ylabel=frame.y)
        every = 1 if across <= 12 else 10
        axes.set_xticks(range(0, across, every), grid.columns[::every])
        axes.set_yticks(range(0, down, every), grid.rows[::every])
        if max(map(len, grid.columns)) > 8 or sum(map(len, grid.columns)) > 60:
            axes.tick_params(axis="x", rotation=30)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    return draw


def counted_in(value: float, _position: Any = None) -> str:
    """A count to three digits: 181258 is 181 k."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def log_ticks(axis: Any) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, or at round numbers where there are too few, as plain numbers."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    low, high = axis.get_view_interval()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    axis.set_major_locator(FixedLocator(ticks) if len(ticks) > 1 else MaxNLocator(4))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(counted_in)
