"""Pictures of a sweep's rows: a line with its seed band, a heat map, or points with their spread."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fitnets.report.sweep import Row

BLUE, RED = "#1f77b4", "#d62728"


def plot(
    path: Path,
    table: Sequence["Row"],
    keys: Sequence[str],
    title: str,
    figure: str,
    scale: float,
    teacher: float | None = None,
    grid: bool = True,
) -> None:
    """One swept key with numbers: a line; two keys: a heat map (not where values are no `grid`); else points.

    `teacher` is a level to compare with.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    numbers = [_number(row.at[0]) for row in table] if len(keys) == 1 else []
    a_line = len(numbers) > 1 and all(number is not None for number in numbers)
    heat = len(keys) == 2 and grid
    size = _heat_size(table) if heat else (6.4, 4.0) if a_line else (6.4, 1.6 + 0.32 * len(table))
    canvas = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    if heat:
        _heat(canvas, axes, table, keys, figure, scale)
    elif a_line:
        _line(axes, table, numbers, keys[0], figure, scale, teacher)
    else:
        _points(axes, table, figure, scale, teacher)
    axes.set_title("\n".join(wrap(title, round(9 * size[0]))), fontsize=10)
    canvas.savefig(path, dpi=150)


def _line(
    axes: Any, table: Sequence["Row"], x: Sequence[Any], key: str, figure: str, scale: float, teacher: float | None
) -> None:
    order = sorted(range(len(table)), key=lambda i: x[i])
    at = [x[i] for i in order]
    middle = [scale * table[i].validation for i in order]
    half = [scale * (table[i].validation_sd or 0.0) for i in order]
    axes.plot(at, middle, color=BLUE, marker="o", label=_seeds(table))
    if any(half):
        low, high = ([m + sign * h for m, h in zip(middle, half, strict=True)] for sign in (-1, 1))
        axes.fill_between(at, low, high, color=BLUE, alpha=0.2, linewidth=0, label="± sample sd")
    best = next(i for i in order if table[i].chosen)
    axes.plot([x[best]], [scale * table[best].validation], "o", ms=11, mfc="none", mec=RED, mew=1.8, label="chosen")
    if teacher is not None:
        axes.axhline(scale * teacher, color="black", linestyle="--", linewidth=1, label="teacher")
    if min(at) > 0 and max(at) / min(at) >= 8:  # as spread over orders of magnitude as it was typed
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(at, [f"{value:g}" for value in at])
    axes.set(xlabel=key, ylabel=figure)
    _plain(axes)
    axes.legend(frameon=False, fontsize=9)


def _points(axes: Any, table: Sequence["Row"], figure: str, scale: float, teacher: float | None) -> None:
    """A setting a line, the first on top."""
    y = range(len(table))
    for i, row in zip(y, table, strict=True):
        color = RED if row.chosen else BLUE
        axes.errorbar([scale * row.validation], [i], xerr=[scale * (row.validation_sd or 0)], fmt="o", color=color)
    axes.set_yticks(list(y), ["  ".join(row.at) + ("  (chosen)" if row.chosen else "") for row in table])
    axes.invert_yaxis()
    if teacher is not None:
        axes.axvline(scale * teacher, color="black", linestyle="--", linewidth=1, label="teacher")
        axes.legend(frameon=False, fontsize=9)
    spread = " ± sample sd" if any(row.validation_sd for row in table) else ""
    axes.set(xlabel=f"{figure}{spread}, {_seeds(table)}")
    _plain(axes)


def _heat(canvas: Any, axes: Any, table: Sequence["Row"], keys: Sequence[str], figure: str, scale: float) -> None:
    """The first key downwards, the second to the right; the chosen cell is framed, what was not run stays empty."""
    from matplotlib.patches import Rectangle

    down, right = _axis(table, 0), _axis(table, 1)
    cells = [[float("nan")] * len(right) for _ in down]
    for row in table:
        cells[down.index(row.at[0])][right.index(row.at[1])] = scale * row.validation
    image = axes.imshow(cells, cmap="viridis", aspect="auto")
    low, high = image.get_clim()
    for row in table:
        i, j = down.index(row.at[0]), right.index(row.at[1])
        dark = cells[i][j] < (low + high) / 2
        text = f"{cells[i][j]:.1f}" if scale == 100 else f"{cells[i][j]:.2f}"
        axes.text(j, i, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")
        if row.chosen:
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=RED, linewidth=2.5, zorder=3))
    axes.set_xticks(range(len(right)), right)
    if max(map(len, right)) > 5:
        axes.tick_params(axis="x", rotation=45)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(down)), down)
    axes.set(xlabel=keys[1], ylabel=keys[0])
    axes.tick_params(length=0)
    canvas.colorbar(image, ax=axes, label=f"{figure}\n{_seeds(table)}")


def _heat_size(table: Sequence["Row"]) -> tuple[float, float]:
    return 3.6 + 0.62 * len(_axis(table, 1)), 1.9 + 0.5 * len(_axis(table, 0))


def _axis(table: Sequence["Row"], column: int) -> list[str]:
    """The values of a key: by size where they are numbers, else as they came."""
    values = list(dict.fromkeys(row.at[column] for row in table))
    return sorted(values, key=float) if all(_number(v) is not None for v in values) else values


def _seeds(table: Sequence["Row"]) -> str:
    counts = sorted({row.n for row in table})
    if len(counts) > 1:
        return f"mean of {counts[0]} to {counts[-1]} seeds"
    return f"mean of {counts[0]} seeds" if counts[0] > 1 else "1 seed"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
