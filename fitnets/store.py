"""What lies on disk: the folder of each trained stage, named by a fingerprint of what decides its result, and its lock.

A finished run with the same fingerprint is reused by any command, and a changed line makes a new one. This file
imports neither torch nor Lightning: planning takes milliseconds.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fitnets.components import targets
from fitnets.ending import StageError
from fitnets.files import (
    SET_ASIDE,
    StorageError,
    broken_in,
    clear_partials,
    folder_at,
    locked,
    read_json,
    set_aside,
    sha256,
    write,
)
from fitnets.fingerprint import code_hash

# Raise it by hand when what all stages share changes a result: the engine, the recorder. Each stage's own code, its
# objective, its networks and the data path are in the fingerprint; tests/test_stored_losses.py watches the rest.
SHARED_VERSION = 1
NO_CURRICULUM = {"name": "none"}
CHECKPOINT, EPOCHS = "last.ckpt", "last.json"  # {hash of the checkpoint: the epoch at which it goes on}
DATA_PATH = "fitnets.data.module.DataModule"
ANSWERS = "fitnets.stages.answers.teacher_answers"


@dataclass(frozen=True)
class Arm:
    """A way to a trained student, as a table names it."""

    name: str
    title: str


@dataclass(frozen=True)
class Run:
    """One trained stage: what decides it (`spec`) and the runs it starts from (`parents`, by role)."""

    stage: str  # its kind: what its folder is called
    title: str
    target: str  # the class that trains it
    trains: str  # teacher | student | score
    arm: Arm
    seed: int
    spec: dict[str, Any]
    parents: dict[str, "Run"] = field(default_factory=dict)
    tested: bool = True  # it gives a whole network
    for_score: bool = False  # trained only for a curriculum's score
    sources: dict[str, str] = field(default_factory=dict)  # where its data lies and is kept: decides nothing
    figures_by: dict[str, "Run"] = field(default_factory=dict)  # what its figures are drawn from: decides nothing
    next: dict[str, str] | None = None  # what its summary names to type next

    @cached_property
    def fingerprint(self) -> str:
        code = {self.target, *targets(self.spec)} | ({DATA_PATH} if "dataset" in self.spec else set())
        if "answers" in self.spec:
            code.add(ANSWERS)
        decides = {
            "shared": SHARED_VERSION,
            "stage": self.stage,
            "seed": self.seed,
            "spec": self.spec,
            "code": {target: code_hash(target) for target in sorted(code)},
            "parents": {role: parent.fingerprint for role, parent in self.parents.items()},
        }
        return hashlib.sha256(json.dumps(_canonical(decides), sort_keys=True).encode()).hexdigest()

    @property
    def needed(self) -> dict[str, "Run"]:
        """The runs that must be finished before it, by role."""
        return self.figures_by | self.parents

    @property
    def net_name(self) -> str:
        return self.spec[self.trains]["name"]

    @property
    def name(self) -> str:
        """Folder under runs_dir: readable, and unique by the start of the fingerprint."""
        dataset = self.spec["dataset"]["name"]
        return f"{self.stage}-{self.net_name}-{dataset}-s{self.seed}-{self.fingerprint[:10]}"

    @property
    def kind(self) -> str:
        after = f" after {self.parents['student'].stage}" if self.continues else ""
        untrained = " (untrained)" if self.spec["epochs"] == 0 and self.trains == "teacher" else ""
        own_arm = self.trains == "student" and self.tested and self.arm.title != self.title and not self.ordered
        arm = f" ({self.arm.title})" if own_arm else ""
        return f"{self.stage} {self.net_name}{untrained}{after}{self.ordered}{arm}"

    @property
    def continues(self) -> bool:
        """Whether it goes on with the student of a step before it."""
        return self.trains == "student" and "student" in self.parents

    @property
    def ordered(self) -> str:
        """Its curriculum in words, "" without one."""
        curriculum = self.spec.get("curriculum", NO_CURRICULUM)
        if curriculum == NO_CURRICULUM:
            return ""
        names = [curriculum[key]["name"] for key in ("score", "pacing") if key in curriculum]
        balanced = ["balanced"] if curriculum["balanced"] else []
        return f", {curriculum['name']} ({', '.join([*names, *balanced])})"

    @property
    def only_labelled(self) -> bool:
        """Whether its batches are drawn from the samples with labels alone: without a teacher it can't use others."""
        return self.trains == "student" and "labels" in self.spec and "teacher" not in self.parents

    def __str__(self) -> str:
        again = ", retrained on all" if "searched" in self.parents else ""
        fold = f", without fold {self.spec['held_out'][0]}" if "held_out" in self.spec else ""
        return f"{self.kind} seed {self.seed}{fold}{again}"


def _canonical(value: Any) -> Any:
    """The same value written the same way: 3 and 3.0 are one temperature."""
    if isinstance(value, dict):
        return {key: _canonical(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_canonical(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def retrained(run: Run) -> Run:
    """The run again, on train and validation images, for as many epochs as a first training found best on validation.

    The first one is not tested: the test part is read once.
    """
    recipe = run.spec["recipe"] | {"keep": "last"}
    parents = {role: retrained(parent) for role, parent in run.parents.items()} | {"searched": untested(run)}
    return replace(run, spec=run.spec | {"train_on": "all", "patience": None, "recipe": recipe}, parents=parents)


def untested(run: Run) -> Run:
    """The run, and what it starts from, with no look at the test part."""
    parents = {role: untested(parent) for role, parent in run.parents.items()}
    return replace(run, tested=False, spec=run.spec | {"tested": False}, parents=parents)


def with_parents(runs: Iterable[Run]) -> list[Run]:
    """The runs with all that they start from, parents first, each once."""
    ordered: dict[str, Run] = {}
    for run in runs:
        for needed in (*with_parents(run.needed.values()), run):
            ordered.setdefault(needed.fingerprint, needed)
    return list(ordered.values())


# ------------------------------------------------------------------------------------------ on disk


def folder_of(run: Run, runs_dir: Path) -> Path:
    return runs_dir / run.name


def read_result(run: Run, runs_dir: Path) -> dict[str, Any] | None:
    """The result of a finished run; None if it has not finished, has not been measured, or is not as it was written."""
    folder = folder_of(run, runs_dir)
    whole = (folder / "result.json").exists() and not broken_in(folder)
    return measured_result(folder) if whole else None


def measured_result(folder: Path) -> dict[str, Any] | None:
    """The result of a run that has been measured; None of one that was killed before."""
    result = read_json(folder / "result.json")
    return result if result and result.get("complete", True) else None


def status(run: Run, runs_dir: Path) -> str:
    """ "done", "half-finished" (it resumes), "broken" (not as it was written: it is trained again) or "missing"."""
    folder = folder_of(run, runs_dir)
    if (folder / "result.json").exists():
        if broken_in(folder):
            return "broken"
        if measured_result(folder):
            return "done"
    return "missing" if resumes_at(run, runs_dir) is None else "half-finished"


def resumes_at(run: Run, runs_dir: Path) -> int | None:
    """The epoch at which a half-finished run goes on, as stands beside its checkpoint; None where it does not."""
    folder = folder_of(run, runs_dir)
    if not (folder / CHECKPOINT).is_file():
        return None
    return (read_json(folder / EPOCHS) or {}).get(sha256(folder / CHECKPOINT))


def states_of(runs: Iterable[Run], runs_dir: Path, again: Collection[str] = ()) -> dict[str, str]:
    """The status of each run by fingerprint; those to train `again` are missing. Raises StorageError."""
    try:
        if runs_dir.exists():
            next(runs_dir.iterdir(), None)
        return {run.fingerprint: "missing" if run.fingerprint in again else status(run, runs_dir) for run in runs}
    except OSError as error:
        what = f"runs_dir is {str(runs_dir)!r}; {error.filename} cannot be read: {error.strerror}"
        raise StorageError(f"{what}: type runs_dir=FOLDER with one that you may read, or ask its owner") from error


def problem_with_writing(runs_dir: Path) -> str | None:
    """Why nothing can be trained into a folder, which may be missing as yet; None where it can."""
    there = next(place for place in (runs_dir.absolute(), *runs_dir.absolute().parents) if place.exists())
    locks = there / ".locks"
    for place in (there, locks) if locks.exists() else (there,):
        if not place.is_dir():
            return f"{place} is no folder, which locks must lie in: move it away"
        if not os.access(place, os.W_OK | os.X_OK):
            return f"runs_dir is {str(runs_dir)!r}; you may not write in {place}: type another runs_dir=FOLDER"
    return None


def mark_version(runs_dir: Path, say: Callable[[str], None]) -> None:
    """Say once where a folder holds runs of an earlier version, which this one does not read."""
    marker = runs_dir / ".version"
    if marker.exists():
        return
    if any(runs_dir.glob("*/result.json")):
        say(f"{runs_dir}/ holds runs of an earlier version: they are left as they are, and not used again.")
    folder_at(runs_dir)
    write(marker, "2\n")


def ensure(
    run: Run,
    runs_dir: Path,
    train: Callable[[Run, Path, dict[str, Path]], None],
    fresh: bool = False,
    say: Callable[[str], None] = print,
) -> tuple[dict[str, Any], bool]:
    """The run's result, and whether it had to be trained here. Its parents must be finished.

    What is done is only read. A lock on the run lets parallel commands share: one trains, the others wait for its
    result. A half-finished run is resumed by `train`; `fresh` throws away what is on disk first. Raises StorageError,
    and StageError where a parent has gone.
    """
    if not fresh and (result := read_result(run, runs_dir)) is not None:
        return result, False

    def at_work(on: Run) -> Any:  # the lock on it
        def waiting(holder: str) -> None:
            say(f"{on}: {holder} is training it; waiting for its result")

        return locked(runs_dir / ".locks" / f"{on.name}.lock", waiting)

    for parent in run.needed.values():  # it was there, but may be trained anew meanwhile, or removed
        if read_result(parent, runs_dir) is None:
            with at_work(parent):
                pass
            if read_result(parent, runs_dir) is None:
                raise StageError(f"{run} starts from {parent}, which is gone or broken now: the same command trains it")
    with at_work(run) as waited:
        fresh = fresh and not waited  # what the other process has just made is fresh
        result = read_result(run, runs_dir)
        if result is not None and not fresh:
            return result, False
        folder = folder_of(run, runs_dir)
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        set_broken_aside(run, runs_dir, say)
        clear_partials(folder_at(folder))
        parents = {role: folder_of(parent, runs_dir) for role, parent in run.needed.items()}
        try:
            train(run, folder, parents)
        except SystemExit as error:
            if error.code == -1:  # submitit's: the job has been queued again
                raise
            # else the command would end as if all were well
            raise StageError(f"{run}: code that it runs has ended the process (exit code {error.code})") from error
        result = read_result(run, runs_dir)
        assert result is not None, f"{run} ended without a result"
        return result, True


def set_broken_aside(run: Run, runs_dir: Path, say: Callable[[str], None]) -> None:
    """Move what is not as it was written to where nothing reads it: the whole run, or its checkpoint."""
    folder, place = folder_of(run, runs_dir), runs_dir / SET_ASIDE
    if (folder / "result.json").exists() and (problem := broken_in(folder)):
        say(f"{folder}: {problem}. It is set aside as {set_aside(folder, place)}, and {run} is trained again")
    elif (folder / CHECKPOINT).exists() and resumes_at(run, runs_dir) is None:
        kept = set_aside(folder / CHECKPOINT, place / run.name)
        say(
            f"{folder / CHECKPOINT} is not as it was written (its hash differs). It is set aside as {kept}, and {run} "
            "begins again"
        )
