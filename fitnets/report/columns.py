"""Columns of tables: a figure of a row, how people read it, and its names in table.csv."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fitnets.report.rows import Mean, Row, difference, difference_text


@dataclass(frozen=True)
class Column:
    title: str
    figure: Callable[[Row], Any]  # a number, a Mean, a difference with its interval; None where a row has none
    text: Callable[[Any], str] = str
    names: tuple[str, ...] = ()  # in table.csv, for each number of the figure
    short: str = ""  # the title in a terminal
    brief: Callable[[Any], str] | None = None  # the text in a terminal
    caption: str = ""  # on the page, where the title does not say what it is

    def cell(self, row: Row, brief: bool = False) -> str:
        figure = self.figure(row)
        if figure is None:
            return ""
        return self.brief(figure) if brief and self.brief else self.text(figure)

    def numbers(self, row: Row) -> list[Any]:
        """What stands in table.csv."""
        figure = self.figure(row)
        if isinstance(figure, Mean):
            return [figure.mean, figure.sd]
        return list(figure or [None] * len(self.names)) if len(self.names) > 1 else [figure]


percent = partial(Mean.text, scale=100)


def test_accuracy(*names: str) -> Column:
    return Column("test accuracy %", lambda row: row.test("accuracy"), percent, names, "test acc. %")


def versus(title: str, baseline: Callable[[Row], Row | None], *names: str) -> Column:
    """The paired difference in test accuracy to a row's baseline."""
    return Column(title, lambda row: difference(row, baseline(row)), difference_text, names)


def balanced_accuracy(row: Row) -> Mean | None:
    """The mean of the classes' test accuracies, where classes are uneven; else accuracy says it."""
    return row.test("balanced_accuracy") if row.first.result["data"]["uneven"] else None


def result_of(key: str) -> Callable[[Row], Any]:
    return lambda row: row.first.result[key]


def millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"


BALANCED = Column("balanced accuracy %", balanced_accuracy, percent, ("balanced_mean", "balanced_sd"), "balanced %")
DIVERGED = Column("diverged", lambda row: row.diverged or None, names=("diverged",))
N = Column("n", lambda row: len(row.runs), names=("n",))
PARAMS = Column("parameters", result_of("params"), "{:,}".format, ("params",), "params", millions)
MULTS = Column("multiplications", result_of("multiplications"), "{:,}".format, ("multiplications",), "mults", millions)
UPDATES = Column("updates", lambda row: row.updates, "{:,}".format, ("updates",))
SECONDS = Column("seconds", lambda row: row.seconds, "{:.1f}".format, ("seconds",))
