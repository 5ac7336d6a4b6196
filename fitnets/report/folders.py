"""Finished runs as their folders tell them: config.yaml, result.json, metrics.csv, pictures. Imports no torch."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

FIRST_STAGES = ("hint", "label_hint")  # they train a part of a student, not one that can be tested


def metrics_in(folder: Path) -> list[dict[str, float]]:
    """metrics.csv of a run: a row an epoch, without the figures that an epoch does not have."""
    path = folder / "metrics.csv"
    if not path.exists():  # a teacher that stays untrained (a control)
        return []
    with open(path) as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


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
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def is_student(self) -> bool:
        """Whether it trained a whole student, which has been tested."""
        return self.result["student"] is not None and self.result["stage"] not in FIRST_STAGES and not self.helps_score

    @property
    def helps_score(self) -> bool:
        """Whether it was trained only for a curriculum's score."""
        return self.config["arm"] == "score"

    @cached_property
    def metrics(self) -> list[dict[str, float]]:
        return metrics_in(self.path)

    def picture(self, name: str) -> Path | None:
        path = self.path / "media" / name
        return path if path.is_file() else None

    def ancestors(self) -> list["Folder"]:
        """Its parents, theirs and so on, each once, the oldest first."""
        found: dict[str, Folder] = {}
        for parent in self.parents.values():
            for folder in (*parent.ancestors(), parent):
                found.setdefault(folder.name, folder)
        return list(found.values())


def finished_in(runs_dir: Path) -> list[Path]:
    """The folders of all finished runs of a runs_dir."""
    folders = sorted(path.parent for path in runs_dir.glob("*/result.json"))
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
    return None


def _read(path: Path, known: dict[Path, Folder]) -> Folder:
    if path not in known:
        config = yaml.load((path / "config.yaml").read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        result = json.loads((path / "result.json").read_text())
        beside = {role: path.parent / name for role, name in config["parents"].items()}
        parents = {role: _read(at, known) for role, at in beside.items() if _problem_with(at) is None}
        known[path] = Folder(path, config, result, parents)
    return known[path]


def with_ancestors(folders: Iterable[Folder]) -> list[Folder]:
    """The runs and all they started from, parents first, each once."""
    found: dict[str, Folder] = {}
    for folder in folders:
        for one in (*folder.ancestors(), folder):
            found.setdefault(one.name, one)
    return list(found.values())
