"""A row: runs that differ in their seed alone. Its figures over seeds, the chosen row, the difference of two."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

from fitnets.report.folders import Folder


@dataclass(frozen=True)
class Mean:
    """A mean over the n runs of a row; `sd` is the sample standard deviation, None with n = 1."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        return cls(mean(values), stdev(values) if len(values) > 1 else None, len(values))

    def text(self, scale: float = 1.0, digits: int | None = 2) -> str:
        """As a person reads it; digits None: four significant ones of the mean."""
        if digits is None:
            digits = max(0, 3 - math.floor(math.log10(abs(scale * self.mean)))) if self.mean else 2
        spread = "" if self.sd is None else f" ± {scale * self.sd:.{digits}f}"
        return f"{scale * self.mean:.{digits}f}{spread}"


@dataclass(eq=False)
class Row:
    """Finished runs that differ in their seed alone, each the last training of a command."""

    arm: str  # its title
    runs: list[Folder]
    at: dict[str, str] = field(default_factory=dict)  # what tells it from the other rows, in order
    name: str = ""  # the arm as it is typed
    label: str = ""  # in legends
    chosen: bool = True  # whether its test figures may be looked at

    @property
    def first(self) -> Folder:
        return self.runs[0]

    @property
    def updates(self) -> int:
        """A seed's, all trainings of the student together."""
        return max(sum(step.result["updates"] for step in run.steps) for run in self.runs)

    @property
    def seconds(self) -> float:
        """A seed's, all trainings of the student together, without the teacher's."""
        return mean(sum(step.result["seconds"] for step in run.steps) for run in self.runs)

    @property
    def order(self) -> str:
        """The order of the curriculum's samples; none without a curriculum."""
        curriculum = self.first.config.get("curriculum", {"name": "none"})
        return curriculum.get("order", curriculum)["name"]

    @property
    def from_labels_alone(self) -> bool:
        """Whether its student learned in one training from nothing but labels at its end."""
        config = self.first.config
        helped = {"teacher", "student"} & set(config["parents"]) or {"hint", "kd_loss"} & set(config)
        return not helped and "hint" not in self.first.result

    @property
    def diverged(self) -> int:
        """How many of its runs have figures that are not finite."""
        return sum(run.diverged for run in self.runs)

    def over(self, figure: Callable[[Folder], float | None]) -> Mean | None:
        """The figure over the row's runs; None unless each has it, and it is finite."""
        values = [figure(run) for run in self.runs]
        known = [value for value in values if value is not None and math.isfinite(value)]
        return Mean.of(known) if known and len(known) == len(values) else None

    def validation(self, name: str) -> Mean | None:
        return self.over(lambda run: run.result["validation"].get(name))

    @property
    def validation_accuracy(self) -> float | None:
        figure = self.validation("accuracy")
        return figure.mean if figure else None

    def test(self, name: str) -> Mean | None:
        """A figure on the test part; None for a row that was not chosen."""
        return self.over(lambda run: run.result["test"].get(name)) if self.chosen else None


@dataclass(frozen=True)
class Criterion:
    """A validation figure that rows are chosen by; `sign` is -1 where smaller is better."""

    name: str
    title: str
    scale: float
    digits: int
    sign: int = 1

    def of(self, row: Row) -> Mean | None:
        return row.validation(self.name)

    def text(self, figure: Mean) -> str:
        return figure.text(self.scale, self.digits)


ACCURACY = Criterion("accuracy", "validation accuracy %", 100.0, 2)
R2 = Criterion("r2", "validation R2", 1.0, 4)
CRITERIA = (ACCURACY, R2, Criterion("hint_loss", "validation hint loss", 1.0, 4, sign=-1))  # the first that runs have


def criterion_of(rows: Sequence[Row]) -> Criterion:
    """What to choose by: the first criterion that any of the rows has."""
    return next((by for by in CRITERIA if any(map(by.of, rows))), ACCURACY)


def standing(row: Row, by: Criterion = ACCURACY) -> tuple[float, float]:
    """How good a row is on validation; equal ones are told apart by NLL (a hint stage: its loss)."""
    if row.diverged:
        return -math.inf, -math.inf
    value = by.of(row)
    tie = row.validation("nll") or row.validation("hint_loss")
    return by.sign * value.mean if value else -math.inf, -tie.mean if tie else 0.0


def choose(rows: Sequence[Row], by: Criterion = ACCURACY) -> None:
    """Choose the best row on validation, whose test figures alone may then be looked at.

    Only rows with the most seeds can be chosen: a lucky seed is not a better setting. A row with a diverged run never
    is.
    """
    whole = [row for row in rows if not row.diverged]
    best = max(whole, key=lambda row: (len(row.runs), standing(row, by)), default=None)
    for row in rows:
        row.chosen = row is best


def baseline_of(rows: Iterable[Row]) -> Row | None:
    """The row that others are held against: the student that learned from labels alone.

    Where rows differ in the order of samples it has no curriculum; if none learned from labels alone, it is the one
    row without a curriculum, or else the one in a random order. None where that may be several settings of one arm.
    """
    rows = list(rows)
    found = [row for row in rows if row.from_labels_alone]
    if len({row.order for row in rows}) > 1:
        unordered = [row for row in rows if row.order == "none"] or [row for row in rows if row.order == "random"]
        found = [row for row in unordered if row.from_labels_alone]
        if len(unordered) == 1:
            found = unordered
    return found[0] if found and [row.arm for row in found].count(found[0].arm) == 1 else None


def difference(row: Row, baseline: Row | None) -> tuple[float, float | None] | None:
    """The mean paired difference in test accuracy to the baseline, and the half width of its 95 % interval."""
    if baseline is None or row is baseline or not row.first.is_student:
        return None
    if row.test("accuracy") is None or baseline.test("accuracy") is None:  # not to be looked at, or no classifier
        return None
    ours = {run.config["seed"]: run.result["test"]["accuracy"] for run in row.runs}
    theirs = {run.config["seed"]: run.result["test"]["accuracy"] for run in baseline.runs}
    return paired_difference(ours, theirs) if set(ours) <= set(theirs) else None


def paired_difference(ours: dict[int, float], theirs: dict[int, float]) -> tuple[float, float | None]:
    """Mean over seeds of ours - theirs, and the half width of its 95 % interval (Student's t, n - 1), if n > 1."""
    from scipy.stats import t

    differences = [ours[seed] - theirs[seed] for seed in sorted(ours)]
    n = len(differences)
    if n == 1:
        return differences[0], None
    return mean(differences), float(t.ppf(0.975, n - 1)) * stdev(differences) / math.sqrt(n)


def difference_text(found: tuple[float, float | None]) -> str:
    """A difference of accuracies in points, as tables write it."""
    points, half = found
    return f"{100 * points:+.2f}" + ("" if half is None else f" ± {100 * half:.2f}")


def natural(value: str) -> list[tuple[float, str]]:
    """For sorting: numbers by size, words by the alphabet, conv2 before conv10."""
    parts = [value] if is_number(value) else re.findall(r"\d+|\D+", value)
    return [(float(part) if is_number(part) else math.inf, part) for part in parts]


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def count_text(rows: Iterable[Row]) -> str:
    """How many seeds the rows have."""
    counts = sorted({len(row.runs) for row in rows} or {1})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
