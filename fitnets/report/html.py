"""Pieces of HTML that the page's sections share, and the sections of words: the result, the lineage, the commands."""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fitnets.report.charts import counted_in
from fitnets.report.columns import (
    DIVERGED,
    MULTS,
    PARAMS,
    SECONDS,
    UPDATES,
    Column,
    N,
    balanced_accuracy,
    percent,
    test_accuracy,
    versus,
)
from fitnets.report.comparisons import Comparison
from fitnets.report.folders import ABOVE, REACHED, TESTED, Folder, filled
from fitnets.report.plots import AT_MOST
from fitnets.report.rows import ACCURACY, Mean, Row, count_text

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
PARTS: Any = TEMPLATES.get_template("parts.html").module
section, over, figures = PARTS.section, PARTS.over, PARTS.figures
COST = ("{epochs} epochs", "{seconds:.1f} s")


def table(columns: Sequence[Column], rows: Sequence[Row], caption: str, marked: Collection[Row] = ()) -> str:
    """A table whose caption says what its titles do not; empty columns are left out."""
    shown = []
    for column in columns:
        cells = [column.cell(row) for row in rows]
        if any(cells):
            shown.append(
                {"title": column.title, "cells": cells, "numeric": not any(cell[:1].isalpha() for cell in cells)}
            )
            caption += f"; {column.caption}" if column.caption else ""
    return PARTS.table(shown, [row in marked for row in rows], caption)


def pictures(rows: Sequence[Row], name: str, caption: str) -> str:
    """The picture of that name out of each row's first run, as it lies in media/."""
    found = [row for row in rows if row.first.has_picture(name)]
    panels = []
    for row in found[:AT_MOST]:
        data = base64.b64encode((row.first.path / "media" / name).read_bytes()).decode()
        panels.append(PARTS.picture(row.label, caption, data))
    seeds = ", ".join(f"seed {seed}" for seed in sorted({row.first.config["seed"] for row in found[:AT_MOST]}))
    more = f"; the first {AT_MOST} of {len(found)} rows" if len(found) > AT_MOST else ""
    return figures(panels, f"{caption} ({seeds}{more}).")


def mean_text(rows: Sequence[Row], how: str = "") -> str:
    """What stands for several seeds, with n; `how` it is drawn, where it has a spread."""
    count = count_text(rows)
    return "one seed, no spread" if count == "n = 1" else f"mean ± sample standard deviation over seeds ({count}){how}"


def some_of(count: int) -> str:
    return "" if count <= AT_MOST else f"; of {count} rows the {AT_MOST} best on validation are drawn"


def headline(comparison: Comparison) -> str:
    """The page's first table, which answers what was asked: a row an arm or a swept value."""
    rows = comparison.rows
    if not rows:
        return ""
    caption = choice_text(comparison)
    if comparison.repeated:
        caption += f" {comparison.repeated} older run(s) with the same settings and seed as a newer one are left out."
    caption += f" Accuracy on the validation and the test part: {mean_text(comparison.students)}"
    marked = [row for row in rows if row.chosen and [other.arm for other in rows].count(row.arm) > 1]
    return section("headline", "Result", table(columns_of(comparison), rows, caption, marked))


def columns_of(comparison: Comparison) -> list[Column]:
    keys = dict.fromkeys(key for row in comparison.students for key in row.at)
    baselines = {row.arm for row in map(comparison.baseline, comparison.students) if row}
    against = f"vs {baselines.pop()}" if len(baselines) == 1 else "vs baseline"
    paired = f"{against}: test accuracy in points, paired by seed, ± the half width of the 95 % t-interval"
    balanced = "balanced: the mean of the classes' test accuracies"
    alike = "agreement: test images that get the teacher's answer"
    ece, brier = "ECE: expected calibration error on the test part", "Brier: the Brier score on the test part"
    training = "updates and seconds: a seed's hint and KD stages together, without the teacher"

    def setting(key: str) -> Column:
        return Column(key, lambda row: row.at.get(key, ""))

    return [
        Column("arm", lambda row: row.label if row in comparison.teachers else row.arm),
        *map(setting, keys),
        Column("validation %", ACCURACY.of, percent),
        Column("test %", lambda row: test_accuracy().cell(row) or "–"),
        Column("balanced %", balanced_accuracy, percent, caption=balanced),
        N,
        DIVERGED,
        replace(versus(against, comparison.baseline), caption=paired),
        Column("agreement %", lambda row: row.test("agreement"), percent, caption=alike),
        Column("ECE %", lambda row: row.test("ece"), percent, caption=ece),
        Column("Brier", lambda row: row.test("brier"), partial(Mean.text, digits=3), caption=brier),
        replace(PARAMS, title="params", text=counted_in, caption="params: parameters"),
        replace(MULTS, title="mults", text=counted_in, caption="mults: multiplications for one image"),
        UPDATES,
        replace(SECONDS, caption=training),
    ]


def choice_text(comparison: Comparison) -> str:
    """Which weights and which rows were tested."""
    kept = {row.first.config["recipe"]["keep"] for row in comparison.students}
    weights = {"last": "the last epoch's", "best": "the best on validation"}
    tested = f"Weights tested: {' or '.join(weights[keep] for keep in sorted(kept))}. " if kept else ""
    if not comparison.swept:
        return f"{tested}The rows were fixed in advance; nothing was selected on the test part."
    return tested + (
        "Within an arm with several settings the row with the best mean validation accuracy (ties: NLL) was chosen "
        "among those with the most seeds; the test part is shown for it alone (–: not looked at)."
    )


def lineage(folders: Sequence[Folder], hidden: Collection[str], labels: Mapping[str, str]) -> str:
    """A tree of the runs. The test figures of `hidden` runs are left out; `labels`: a run's row, by its name."""
    below: dict[str | None, list[Folder]] = {}
    for folder in folders:
        nearest = [role for role in [*ABOVE, *folder.parents] if role in folder.parents]
        above = folder.parents[nearest[0]].name if nearest else None
        below.setdefault(above, []).append(folder)

    def node(folder: Folder) -> dict[str, Any]:
        parents = folder.config["parents"]
        words = [labels[folder.name]] if folder.name in labels else []
        words += filled(folder.result, *REACHED, *(() if folder.name in hidden else (TESTED,)), *COST)
        words += [f"scored by {parents['score']}"] if "score" in parents else []
        gone = [role for role in parents if role not in folder.parents]
        children = [node(child) for child in below.get(folder.name, [])]
        return {"name": folder.name, "about": ", ".join(words), "gone": ", ".join(gone), "below": children}

    return section("lineage", "Lineage", PARTS.lineage([node(root) for root in below.get(None, [])], len(folders)))


def made_by(folders: Sequence[Folder], commands: Sequence[str]) -> str:
    """The commands that the caller names, then those that the run folders have kept."""
    kept: dict[str, list[str]] = {}
    for folder in folders:
        command = folder.config["trainer"].get("command", "")
        if command and command not in commands:
            kept.setdefault(command, []).append(folder.name)
    return section("commands", "Commands", PARTS.commands(commands, kept))
