"""Finished runs as their folders hold them: config.yaml, result.json, metrics.csv, pictures. Imports no torch."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fitnets.files import problem_with, read_config, read_json

# What a run reached in words, for `filled`; a regressor has R2, a student accuracy
REACHED = (
    "{score[samples]:,} samples scored",
    "hint loss {validation[hint_loss]:.4g}",
    "R2 {validation[r2]:.3f}",
    "val accuracy {validation[accuracy]:.2%}",
)
TESTED = "test {test[accuracy]:.2%}"
# The role of the run that a run is shown below, the nearest first; then any other parent
ABOVE = ("searched", "student", "teacher", "score")


class NoRuns(ValueError):
    """What was given holds no finished run; the message says what to type."""


@dataclass(frozen=True, eq=False)
class Folder:
    """One finished run, and those it started from (by role, as far as they are still on disk)."""

    path: Path
    config: dict[str, Any]
    result: dict[str, Any]
    parents: dict[str, "Folder"] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def is_student(self) -> bool:
        """Whether it gave a whole student that was tested, and not only for a curriculum's score."""
        return self.of_student and self.config["tested"]

    @property
    def of_student(self) -> bool:
        """Whether it trained a student or a part of one for its own sake."""
        return self.config["trains"] == "student" and not self.config["for_score"]

    @property
    def is_teacher(self) -> bool:
        """Whether it is a teacher that has learned something; a control's stays untrained."""
        return self.config["trains"] == "teacher" and bool(self.result["validation"])

    @property
    def labels_text(self) -> str:
        labels = self.result["labels"]
        return "all labels" if labels == "all" else f"{labels} labels"

    @property
    def data_text(self) -> str:
        """Its data as titles name them."""
        noise = self.config["dataset"].get("label_noise")
        wrong = f", {noise:.0%} wrong labels" if noise else ""
        return f"{self.result['dataset']}, {self.labels_text}{wrong}"

    @property
    def steps(self) -> list["Folder"]:
        """The trainings of this network one after the other, its own last."""
        before = self.parents.get("student")
        return [*(before.steps if before else []), self]

    @property
    def layers(self) -> list[str]:
        """The teacher's and the student's layer between which a hint was given, as far as there are any."""
        hint = self.result.get("hint", {})
        return [hint[key] for key in ("hint_layer", "guided_layer") if key in hint]

    @property
    def diverged(self) -> bool:
        """Whether a validation figure of it, or of a step before it, is not finite."""
        figures = [figure for step in self.steps for figure in step.result["validation"].values()]
        return any(figure is None or not math.isfinite(figure) for figure in figures)

    def has_picture(self, name: str) -> bool:
        """Whether media/ holds it; a link that leads out of the folder is none of its pictures."""
        path = self.path / "media" / name
        return path.is_file() and path.resolve().is_relative_to(self.path.resolve())

    @property
    def nothing_learned(self) -> list[str]:
        """A sentence for each training behind it, and its own, that was no better than knowing nothing."""
        before = dict.fromkeys(line for parent in self.parents.values() for line in parent.nothing_learned)
        own = self.result.get("learned_nothing")
        return [*before, *([f"{self.name} LEARNED NOTHING: {own}"] if own else [])]

    @property
    def search(self) -> "Folder":
        """The training with validation figures over time: a retraining on all images has none and follows one."""
        return self.parents.get("searched", self)

    @cached_property
    def metrics(self) -> list[dict[str, float]]:
        """metrics.csv: a row an epoch, without the figures that an epoch does not have."""
        path = self.path / "metrics.csv"
        if not path.exists():  # a teacher that stays untrained
            return []
        with open(path, encoding="utf-8") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def filled(result: Mapping[str, Any], *lines: str) -> list[str]:
    """The lines with the result's figures in their braces, without those that need a figure that it does not have."""
    found = []
    for line in lines:
        with suppress(KeyError):
            found.append(line.format_map(result))
    return found


def joined(values: Iterable[Any], between: str = ", ") -> str:
    """The values that there are, each once."""
    return between.join(dict.fromkeys(str(value) for value in values if value is not None))


def with_ancestors(folders: Iterable[Folder]) -> list[Folder]:
    """The runs and all they started from, parents first, each once."""
    found: dict[str, Folder] = {}
    for folder in folders:
        for one in [*with_ancestors(folder.parents.values()), folder]:
            found.setdefault(one.name, one)
    return list(found.values())


def finished_in(runs_dir: Path) -> list[Path]:
    """The folders of all finished runs of a runs_dir, without those of an older version of FitNets."""
    found = sorted(path.parent for path in runs_dir.glob("*/result.json"))
    folders = [folder for folder in found if (folder / "config.yaml").is_file() and not _is_old(folder)]
    if not folders:
        raise NoRuns(f"{runs_dir}/ holds no finished run; `python run.py` makes some, --runs-dir names another folder")
    return folders


def read(folders: Sequence[Path]) -> list[Folder]:
    """The runs in these folders with their ancestors; NoRuns names every folder that holds no finished run."""
    problems = [problem for folder in folders if (problem := _problem_with(folder))]
    if problems:
        raise NoRuns("\n".join(problems))
    if not folders:
        raise NoRuns("no run was given; name at least one run folder, as in runs/kd-thin_deep-digits-s0-...")
    known: dict[Path, Folder] = {}
    return list({folder.resolve(): _read(folder.resolve(), known) for folder in folders}.values())


def _problem_with(folder: Path) -> str | None:
    if not folder.is_dir():
        return f"{folder} is no folder; name a run's, as `python scripts/runs.py` lists them"
    if not (folder / "config.yaml").is_file():
        return f"{folder} is no run: it has no config.yaml; `python scripts/runs.py` lists the runs"
    if not (folder / "result.json").is_file():
        return f"{folder} is not finished: it has no result.json; the command that began it goes on where it was"
    if _is_old(folder):
        return f"{folder} was written by an older version of FitNets; the command that made it trains it again"
    return None


def _is_old(folder: Path) -> bool:
    """Whether config.yaml is from before it said what the run trains."""
    return "\ntrains: " not in (folder / "config.yaml").read_text(encoding="utf-8", errors="replace")


def _read(path: Path, known: dict[Path, Folder]) -> Folder:
    if path not in known:
        config, result = _checked(path)
        above = {role: path.parent / Path(name).name for role, name in config["parents"].items()}  # none lies elsewhere
        parents = {role: _read(folder, known) for role, folder in above.items() if _problem_with(folder) is None}
        known[path] = Folder(path, config, result, parents)
    return known[path]


def _checked(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """config.yaml and result.json of a finished run. Raises NoRuns where they are not as they were written."""
    problems = [problem_with(path, name) for name in ("config.yaml", "result.json", "metrics.csv")]
    result = read_json(path / "result.json")
    try:
        config = read_config(path)
    except ValueError as error:
        problems.append(str(error))
    if any(problems) or result is None:
        problem = next(filter(None, problems), "result.json cannot be read")
        raise NoRuns(f"{path}: {problem}; the command that made it makes it again")
    return config, result
