"""W&B and TensorBoard: they get the rows of metrics.csv, which every stage writes, one an epoch.

Nothing here imports torch, Lightning, wandb or tensorboard before it is used.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fitnets.ending import in_a_line
from fitnets.store import Run
from fitnets.tracking.wandb import WandbRun

MEASURED_SHARE = 0.01  # of the time, for figures that the stage does not log itself


class TensorBoard:
    """Event files in the run's folder; a resumed stage writes them anew, whole."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        self.writer = SummaryWriter(str(folder / "tensorboard"))
        self.epoch = 0

    def row(self, row: Mapping[str, float]) -> None:
        """An epoch's figures; `epoch` and `updates` are among them."""
        self.epoch = int(row["epoch"])
        for name, value in row.items():
            self.writer.add_scalar(name, value, self.epoch)

    def end(self, figures: Mapping[str, float], result: Mapping[str, Any], media: Path) -> None:
        """The finished stage."""
        import numpy as np
        from PIL import Image

        for name, value in figures.items():
            self.writer.add_scalar(name, value, self.epoch)
        for path in sorted(media.glob("*.png")):
            self.writer.add_image(f"media/{path.stem}", np.asarray(Image.open(path)), self.epoch, dataformats="HWC")

    def close(self, exit_code: int) -> None:
        self.writer.close()


class Loggers:
    """The loggers of one stage. They see a resumed stage's epochs from the first one on.

    One that fails, for its network, its disk or its own sake, is said and left out: the training goes on.
    """

    def __init__(self, loggers: list[TensorBoard | WandbRun], say: Callable[[str], None] = print):
        self.loggers = loggers
        self.say = say
        self.measure: Callable[[], dict[str, float]] = dict
        self.began = time.monotonic()
        self.spent = self.price = 0.0

    def row(self, row: Mapping[str, float], new: bool = True) -> None:
        """Hand on an epoch's row, with what `measure` finds where MEASURED_SHARE of the time so far pays for it.

        A row that is not `new` was found before the stage was interrupted: its weights are gone.
        """
        if not self.loggers:
            return
        started, extra = time.monotonic(), {}
        if new and self.spent + self.price <= MEASURED_SHARE * (started - self.began):
            extra = self.measure()
            self.price = time.monotonic() - started
            self.spent += self.price
        self.each(lambda logger: logger.row({**row, **extra}))

    def end(self, result: Mapping[str, Any], media: Path) -> None:
        self.each(lambda logger: logger.end(final_figures(result), result, media))

    def close(self, exit_code: int) -> None:
        self.each(lambda logger: logger.close(exit_code))

    def each(self, act: Callable[[TensorBoard | WandbRun], None]) -> None:
        for logger in list(self.loggers):
            try:
                act(logger)
            except Exception as error:
                self.loggers.remove(logger)
                self.say(failed(NAMES.get(type(logger), type(logger).__name__), error))


NAMES: dict[type, str] = {TensorBoard: "TensorBoard", WandbRun: "W&B"}


def failed(name: str, error: Exception) -> str:
    return f"{name} failed ({in_a_line(error)}); the training goes on without it, metrics.csv has all"


@contextlib.contextmanager
def started(
    run: Run, folder: Path, parents: Mapping[str, Path], chosen: Mapping[str, Any], say: Callable[[str], None]
) -> Iterator[Loggers]:
    """The loggers that `chosen` (the config's `logger`) names, closed with exit code 1 where the stage raises."""
    makers: dict[str, Callable[[], TensorBoard | WandbRun]] = {
        "tensorboard": lambda: TensorBoard(folder),
        "wandb": lambda: WandbRun(run, folder, parents, chosen["wandb"], say),
    }
    loggers = Loggers([], say)
    for name in makers:
        if name in chosen:
            try:
                loggers.loggers.append(makers[name]())
            except Exception as error:
                say(failed(name, error))
    exit_code = 1
    try:
        yield loggers
        exit_code = 0
    finally:
        loggers.close(exit_code)


def final_figures(result: Mapping[str, Any]) -> dict[str, float]:
    """A finished stage's figures by the names under which they are logged; what a stage does not have is left out."""
    headline = {f"test_{name}": value for name, value in result["test"].items()}
    headline |= {f"val_{name}": value for name, value in result["validation"].items()}
    if result["test"] and result.get("teacher_accuracy") is not None:
        headline["teacher_accuracy"] = result["teacher_accuracy"]
        headline["gap_to_teacher"] = result["test_accuracy"] - result["teacher_accuracy"]
    costs = {key: result[key] for key in ("params", "multiplications", "seconds")} | result["cost"]
    named = {f"headline/{name}": value for name, value in headline.items()}
    return named | {f"cost/{name}": value for name, value in costs.items()} | result["observed"]
