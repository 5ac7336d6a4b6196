"""The plan: which trained stages a command needs, which are already on disk, run the rest.

A Run is one trained stage. Its fingerprint hashes everything that decides its result, and nothing else, so a
finished run with the same fingerprint is reused by any command, and a changed line makes a new one. This file
imports neither torch nor Lightning: planning takes milliseconds.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fitnets.components import source_hash, targets

# Raise a number by hand when the code behind that stage changes its result: its module, the losses, the layers, the
# optimizer, the training. A change of fitnets/data/module.py or batches.py concerns all four.
STAGE_VERSIONS = {"teacher": 1, "backprop": 1, "hint": 1, "kd": 1}


@dataclass(frozen=True)
class Run:
    """One trained stage: what decides it (`spec`) and the runs it starts from (`parents`, by role)."""

    stage: str  # teacher, backprop, hint or kd
    arm: str  # teacher, backprop, kd or fitnet: the way to a trained student that it belongs to
    seed: int
    spec: dict[str, Any]
    parents: dict[str, "Run"] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        decides = {
            "stage": self.stage,
            "version": STAGE_VERSIONS[self.stage],
            "seed": self.seed,
            "spec": self.spec,
            "sources": {target: source_hash(target) for target in targets(self.spec)},
            "parents": {role: parent.fingerprint for role, parent in self.parents.items()},
        }
        return hashlib.sha256(json.dumps(_canonical(decides), sort_keys=True).encode()).hexdigest()

    @property
    def net_name(self) -> str:
        return self.spec["teacher" if self.stage == "teacher" else "student"]["name"]

    @property
    def name(self) -> str:
        """Folder under runs_dir: readable, and unique by the start of the fingerprint."""
        dataset = self.spec["dataset"]["name"]
        return f"{self.stage}-{self.net_name}-{dataset}-s{self.seed}-{self.fingerprint[:10]}"

    @property
    def kind(self) -> str:
        return f"{self.stage} {self.net_name}" + (" after hint" if "hint" in self.parents else "")

    def __str__(self) -> str:
        return f"{self.kind} seed {self.seed}"


def _canonical(value: Any) -> Any:
    """The same value written the same way: 3 and 3.0 are one temperature."""
    if isinstance(value, dict):
        return {key: _canonical(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_canonical(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


# --------------------------------------------------------------------------------------------- plan


def plan(cfg: dict[str, Any]) -> list[Run]:
    """The runs that a command names, in order; their parents come with them (see with_parents).

    `stage` is a trained stage (teacher, backprop, hint, kd) or a plan: `fitnet` is hint then kd, `compare` is
    every arm for every seed. Arms get equal updates: backprop and kd train epochs.hint + epochs.kd.
    """
    stage, seed = cfg["stage"]["name"], cfg["seed"]
    if stage == "compare":
        return [run for seed in cfg["seeds"] for arm in cfg["stage"]["arms"] for run in arm_runs(cfg, arm, seed)]
    if stage == "teacher":
        return [teacher_run(cfg)]
    if stage == "hint":
        return [hint_run(cfg, seed)]
    return arm_runs(cfg, stage, seed)


def with_parents(runs: Iterable[Run]) -> list[Run]:
    """The runs with all that they start from, parents first, each once."""
    ordered: dict[str, Run] = {}
    for run in runs:
        for needed in (*with_parents(run.parents.values()), run):
            ordered.setdefault(needed.fingerprint, needed)
    return list(ordered.values())


def arm_runs(cfg: dict[str, Any], arm: str, seed: int) -> list[Run]:
    """The stages of one arm, the trained student last."""
    if arm == "fitnet":
        hint = hint_run(cfg, seed)
        return [hint, kd_run(cfg, seed, hint)]
    return [kd_run(cfg, seed)] if arm == "kd" else [backprop_run(cfg, seed)]


def teacher_run(cfg: dict[str, Any]) -> Run:
    """On all labels, with the recipe in its own YAML: nothing that concerns the student moves it."""
    teacher = {key: cfg["teacher"][key] for key in ("name", "net", "init")}
    spec = _common(cfg) | {"teacher": teacher, "recipe": cfg["teacher"]["recipe"]}
    return Run("teacher", "teacher", cfg["teacher_seed"], spec | {"epochs": cfg["epochs"]["teacher"]})


def backprop_run(cfg: dict[str, Any], seed: int) -> Run:
    spec = _common(cfg) | _student(cfg) | {"labels": cfg["dataset"]["labels"], "epochs": _both(cfg)}
    return Run("backprop", "backprop", seed, spec)


def hint_run(cfg: dict[str, Any], seed: int) -> Run:
    """Needs no label and knows no temperature, so sweeps over either share it.

    It always hands on the weights with the best validation hint loss (paper section 2.3), whatever `keep` says.
    """
    spec = _common(cfg) | _student(cfg | {"keep": "best"})
    layers = {key: str(cfg["hint"][key]) for key in ("teacher_layer", "student_layer")}  # "5" is a module's name too
    spec |= {"hint": cfg["hint"] | layers, "answers": cfg["answers"], "epochs": cfg["epochs"]["hint"]}
    return Run("hint", "fitnet", seed, spec, {"teacher": teacher_run(cfg)})


def kd_run(cfg: dict[str, Any], seed: int, hint: Run | None = None) -> Run:
    spec = _common(cfg) | _student(cfg) | {"labels": cfg["dataset"]["labels"], "answers": cfg["answers"]}
    paper = cfg["kd_loss"]["name"] == "paper"  # alpha is Hinton's, lambda the paper's
    loss = {"name": "paper"} | {"lambda_schedule": cfg["lambda_schedule"]} if paper else cfg["kd_loss"]
    spec |= {"temperature": cfg["temperature"], "kd_loss": loss}
    spec["epochs"] = cfg["epochs"]["kd"] if hint else _both(cfg)
    parents = {"teacher": teacher_run(cfg)} | ({"hint": hint} if hint else {})
    return Run("kd", "fitnet" if hint else "kd", seed, spec, parents)


def _both(cfg: dict[str, Any]) -> int:
    return cfg["epochs"]["hint"] + cfg["epochs"]["kd"]


def _common(cfg: dict[str, Any]) -> dict[str, Any]:
    return {
        "dataset": {key: value for key, value in cfg["dataset"].items() if key != "labels"},
        "split_seed": cfg["split_seed"],
        "precision": cfg["trainer"]["precision"],
    }


def _student(cfg: dict[str, Any]) -> dict[str, Any]:
    return {
        "student": cfg["student"],
        "curriculum": cfg["curriculum"],
        "init": cfg["init"],
        "recipe": {key: cfg[key] for key in ("optimizer", "lr_schedule", "batch_size", "keep")},
    }


# -------------------------------------------------------------------------------------------- store


def folder_of(run: Run, runs_dir: Path) -> Path:
    return runs_dir / run.name


def read_result(run: Run, runs_dir: Path) -> dict[str, Any] | None:
    """The result of a finished run; None if it has not finished."""
    path = folder_of(run, runs_dir) / "result.json"
    return json.loads(path.read_text()) if path.exists() else None


def status(run: Run, runs_dir: Path) -> str:
    """ "done", "half-finished" (it resumes) or "missing"."""
    if read_result(run, runs_dir) is not None:
        return "done"
    return "half-finished" if (folder_of(run, runs_dir) / "last.ckpt").exists() else "missing"


def ensure(
    run: Run,
    runs_dir: Path,
    train: Callable[[Run, Path, dict[str, Path]], None],
    fresh: bool = False,
    say: Callable[[str], None] = print,
) -> tuple[dict[str, Any], bool]:
    """The run's result, and whether it had to be trained here. Its parents must be finished.

    A lock on the run lets parallel commands share: one trains, the others wait for its result. A half-finished
    run is resumed by `train`; `fresh` throws away what is on disk first.
    """
    locks = runs_dir / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{run.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{run}: another process is training it; waiting for its result")
        lock.acquire()
        fresh = False  # what the other process has just made is fresh
    try:
        result = read_result(run, runs_dir)
        if result is not None and not fresh:
            return result, False
        if fresh:
            shutil.rmtree(folder_of(run, runs_dir), ignore_errors=True)
        parents = {role: folder_of(parent, runs_dir) for role, parent in run.parents.items()}
        train(run, folder_of(run, runs_dir), parents)
        result = read_result(run, runs_dir)
        assert result is not None, f"{run} ended without a result"
        return result, True
    finally:
        lock.release()
