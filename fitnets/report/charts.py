"""Figures for the page: matplotlib draws, the SVG's text stays text and its colours follow the page's theme.

Every colour is drawn as a placeholder that becomes a CSS variable of page.html, with the light theme's colour as its
fallback: light and dark come from one file, and a figure saved on its own keeps its colours.
"""

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any

INK, MUTED, GRID, PAPER = "#0b0b01", "#0b0b02", "#0b0b03", "#0b0b04"
# Okabe and Ito's colours, which the colour-blind tell apart; 0 is for a baseline, the last one for a teacher
FALLBACKS = ("#7a7a7a", "#0072b2", "#d55e00", "#009e73", "#b5629b", "#b8860b", "#3f9fd0", "#8c564b", "#333333")
SERIES = tuple(f"#0a0a{number:02x}" for number in range(len(FALLBACKS)))
THEME = {
    INK: "currentColor",
    MUTED: "var(--muted, #5c6066)",
    GRID: "var(--line, #dddddd)",
    PAPER: "var(--paper, #ffffff)",
    **{color: f"var(--s{n}, {light})" for n, (color, light) in enumerate(zip(SERIES, FALLBACKS, strict=True))},
}
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
WIDTH, HEIGHT = 4.6, 3.3  # inches: two stand side by side on a desk, one on a phone


@dataclass(frozen=True)
class Style:
    """How a row looks in every figure of a page."""

    color: str = SERIES[1]
    alpha: float = 1.0
    dash: Any = "-"
    marker: str = "o"


@dataclass(frozen=True)
class Line:
    """A mean over runs at each x, and its spread where there are several."""

    label: str
    style: Style
    x: Sequence[float]
    mean: Sequence[float]
    spread: Sequence[float] = field(default_factory=list)

    @property
    def low(self) -> list[float]:
        return [m - s for m, s in zip(self.mean, self.spread, strict=True)]

    @property
    def high(self) -> list[float]:
        return [m + s for m, s in zip(self.mean, self.spread, strict=True)]


def svg(
    draw: Callable[[Any], Any], about: str, size: tuple[float, float] = (WIDTH, HEIGHT), legend: bool = True
) -> str:
    """One figure with one pair of axes as inline SVG. `about` tells it to who cannot see it."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": about,
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "lines.linewidth": 1.6,
        "legend.frameon": False,
        "legend.handlelength": 1.8,
        "legend.columnspacing": 1.1,
    }
    with rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        draw(axes)
        handles, labels = axes.get_legend_handles_labels()
        # rows before the teacher's line and the ring of the chosen one
        entries = sorted(
            zip(handles, labels, strict=True), key=lambda entry: entry[1].startswith(("teacher", "chosen"))
        )
        labels = [label for _, label in entries]
        if legend and labels:
            columns = legend_columns([len(label) for label in labels], 72 * size[0])
            figure.legend(
                [handle for handle, _ in entries], labels, loc="outside upper left", ncols=columns, fontsize=8.5
            )
            figure.set_figheight(size[1] + 0.18 * (math.ceil(len(labels) / columns) - 1))  # the axes keep their height
        file = io.StringIO()
        figure.savefig(
            file, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    return themed(file.getvalue(), about)


def legend_columns(lengths: Sequence[int], width: float) -> int:
    """How many columns of a legend fit into `width` points, by the lengths of its labels."""
    for columns in range(len(lengths), 1, -1):
        deep, deeper = divmod(len(lengths), columns)  # matplotlib fills the first columns with one more
        starts = [column * deep + min(column, deeper) for column in range(columns + 1)]
        longest = [max(lengths[start:end]) for start, end in pairwise(starts)]
        if sum(28 + 4.6 * length for length in longest) < width - 10:
            return columns
    return 1


def themed(text: str, about: str) -> str:
    """matplotlib's SVG made part of a page: its own names, the page's fonts and colours, no word on the web."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None, "matplotlib writes a viewBox"
    text = re.sub(r"<svg[^>]*>", f'<svg {view[0]} role="img" aria-label="{escape(about)}">', text, count=1)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r"font-family:[^;\"]*;? ?|'DejaVu Sans'[^;\"]*", "", text)
    text = re.sub(r"#0[ab]0[ab][0-9a-f]{2}", lambda found: THEME[found[0]], text)
    return re.sub(r"\s*\n\s*", " ", text).strip()


def counted_in(value: float, _position: Any = None) -> str:
    """A count to three digits: 181258 is 181 k."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def log_ticks(axis: Any) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, or at round numbers where there are too few; told as plain numbers."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    low, high = axis.get_view_interval()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    axis.set_major_locator(FixedLocator(ticks) if len(ticks) > 1 else MaxNLocator(4))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(counted_in)


def curves(
    lines: Sequence[Line], x: str, y: str, level: tuple[float, str] | None = None, log: bool = False
) -> Callable[[Any], None]:
    """Means over runs, with bands of their spread; `level`: a dashed line across, and its name."""

    def draw(axes: Any) -> None:
        for line in lines:
            style = line.style
            axes.plot(line.x, line.mean, color=style.color, alpha=style.alpha, linestyle=style.dash, label=line.label)
            if line.spread:
                band = {"color": style.color, "alpha": (0.18 if len(lines) <= 4 else 0.1) * style.alpha, "linewidth": 0}
                axes.fill_between(line.x, line.low, line.high, **band)
        if level:
            axes.axhline(level[0], color=SERIES[-1], linestyle=DASHES[1], linewidth=1, label=level[1])
        axes.set(xlabel=x, ylabel=y)
        if log and min((value for line in lines for value in line.mean), default=0) > 0:
            low, high = (pick(value for line in lines for value in line.mean) for pick in (min, max))
            axes.set_yscale("log")
            axes.set_ylim(0.8 * low, 1.25 * high)  # a band may go below zero
            log_ticks(axes.yaxis)

    return draw


def points(
    lines: Sequence[Line],
    x: str,
    y: str,
    level: tuple[float, str] | None = None,
    log: bool = False,
    joined: bool = True,
    ringed: tuple[float, float] | None = None,
) -> Callable[[Any], None]:
    """Means with error bars; `joined` where x is a scale that was swept, `ringed` the point that was chosen."""

    def draw(axes: Any) -> None:
        for line in lines:
            style, spread = line.style, line.spread or None
            look = {"color": style.color, "alpha": style.alpha, "marker": style.marker, "markersize": 5}
            bars = {"capsize": 3, "elinewidth": 1, "linestyle": style.dash if joined else "none"}
            axes.errorbar(line.x, line.mean, spread, label=line.label, **look, **bars)
        if ringed:
            axes.plot(*ringed, "o", markersize=12, markerfacecolor="none", markeredgecolor=INK, label="chosen")
        if level:
            axes.axhline(level[0], color=SERIES[-1], linestyle=DASHES[1], linewidth=1, label=level[1])
        if log:
            axes.set_xscale("log")
        axes.set(xlabel=x, ylabel=y)

    return draw


def reliability(lines: Sequence[tuple[Line, Sequence[float]]]) -> Callable[[Any], None]:
    """Accuracy against confidence by bin; the larger a dot, the more of the images (a fraction) are in its bin."""

    def draw(axes: Any) -> None:
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.9, linestyle=DASHES[2])
        for line, share in lines:
            look = {"color": line.style.color, "alpha": line.style.alpha}
            axes.plot(line.x, line.mean, linewidth=0.9, linestyle=line.style.dash, label=line.label, **look)
            axes.scatter(line.x, line.mean, s=[6 + 90 * part for part in share], linewidths=0, **look)
        axes.set(xlabel="confidence (%)", ylabel="accuracy (%)", xlim=(-3, 103), ylim=(-3, 103))

    return draw


def heat(
    values: Sequence[Sequence[float | None]],
    words: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    x: str,
    y: str,
    color: str = SERIES[1],
    ringed: tuple[int, int] | None = None,
    diagonal: bool = False,
) -> Callable[[Any], None]:
    """Cells, the darker the larger their value, with `words` on them where there is room.

    `diagonal`: a confusion matrix, whose right answers stay pale.
    """
    known = [
        value
        for i, line in enumerate(values)
        for j, value in enumerate(line)
        if value is not None and not (diagonal and i == j)
    ]
    low, high = (0.0, max(known, default=1.0)) if diagonal else (min(known, default=0.0), max(known, default=1.0))
    floor = 0.0 if diagonal else 0.12

    def draw(axes: Any) -> None:
        from matplotlib.patches import Rectangle

        axes.grid(False)
        size = 8.5 if len(columns) <= 6 else 7
        for i, line in enumerate(values):
            for j, value in enumerate(line):
                if value is None or (diagonal and not value):
                    continue
                right = diagonal and i == j
                share = 1.0 if high == low else (value - low) / (high - low)
                alpha = 1.0 if right else floor + (0.95 - floor) * max(0.0, share) if high else 0.0
                axes.add_patch(
                    Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, color=GRID if right else color, alpha=alpha, lw=0)
                )
                if len(columns) <= 12 and words[i][j]:
                    ink = PAPER if alpha > 0.6 and not right else INK
                    axes.text(j, i, words[i][j], ha="center", va="center", fontsize=size, color=ink)
        if ringed:
            axes.add_patch(
                Rectangle((ringed[1] - 0.48, ringed[0] - 0.48), 0.96, 0.96, fill=False, edgecolor=INK, lw=1.8)
            )
        axes.set(xlim=(-0.55, len(columns) - 0.45), ylim=(len(rows) - 0.45, -0.55), xlabel=x, ylabel=y)
        every = 1 if len(columns) <= 12 else 10
        axes.set_xticks(range(0, len(columns), every), columns[::every])
        axes.set_yticks(range(0, len(rows), every), rows[::every])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    return draw
