"""Runs made into rows: runs that differ in the seed alone are one; among several, one is chosen on validation."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from fitnets.report.arms import ARM_NAMES, paired_difference
from fitnets.report.folders import Folder, with_ancestors

NOT_SETTINGS = (
    *("stage", "arm", "seed", "fingerprint", "parents", "figures_by", "data", "trainer", "split_seed", "labels"),
    "dataset",
)
# The keys that name a row, most telling first; any other key follows where these do not tell two rows apart.
TELLING = (
    *("student.name", "teacher.name", "curriculum.name", "hint.teacher_layer", "hint.student_layer", "hint.regressor"),
    *("temperature", "kd_loss.name", "kd_loss.alpha", "init.name", "recipe.optimizer._target_", "recipe.optimizer.lr"),
)
TITLES = {
    "student.name": "student",
    "teacher.name": "teacher",
    "curriculum.name": "curriculum",
    "hint.teacher_layer": "hint layer",
    "hint.student_layer": "guided layer",
    "hint.regressor": "regressor",
    "kd_loss.name": "KD loss",
    "init.name": "init",
    "recipe.optimizer._target_": "optimizer",
    "recipe.optimizer.lr": "learning rate",
}
PAIR = ("hint.teacher_layer", "hint.student_layer")
OBVIOUS = ("student.name", "teacher.name", "recipe.optimizer._target_")  # their values need no title before them


@dataclass(frozen=True)
class Figure:
    """A mean over the n runs of a row; `sd` is the sample standard deviation, None with n = 1."""

    mean: float
    sd: float | None
    n: int

    def told(self, scale: float = 1.0, digits: int | None = 2) -> str:
        """As a person reads it; digits None: four significant ones of the mean."""
        if digits is None:
            digits = max(0, 3 - math.floor(math.log10(abs(scale * self.mean)))) if self.mean else 2
        spread = "" if self.sd is None else f" ± {scale * self.sd:.{digits}f}"
        return f"{scale * self.mean:.{digits}f}{spread}"


@dataclass(eq=False)
class Row:
    """Runs with the same settings, by seed. `shown`: its test figures may be looked at."""

    arm: str
    settings: dict[str, Any]
    runs: list[Folder]
    names: dict[str, str] = field(default_factory=dict)  # the settings that tell it from the others, by title
    label: str = ""
    shown: bool = True

    @property
    def first(self) -> Folder:
        return self.runs[0]

    def over(self, figure: Callable[[Folder], float | None]) -> Figure | None:
        """The figure over the row's runs; None unless each has it."""
        values = [figure(run) for run in self.runs]
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return None
        return Figure(mean(known), stdev(known) if len(known) > 1 else None, len(known))

    def validation(self, name: str) -> Figure | None:
        return self.over(lambda run: run.result["validation"].get(name))

    def test(self, name: str) -> Figure | None:
        """A figure on the test part; None for a row that was not chosen."""
        return self.over(lambda run: run.result["test"].get(name)) if self.shown else None


@dataclass(eq=False)
class Problem:
    """What may be compared: one data set and split with the same labels seen."""

    title: str
    students: list[Row]
    teachers: list[Row]
    hints: list[Row]
    repeated: int  # runs left out because a newer one has the same settings and seed
    fixed: bool  # every row was fixed before anything was trained

    @property
    def rows(self) -> list[Row]:
        return [*self.teachers, *self.students]

    @property
    def swept(self) -> bool:
        """Whether some row was chosen among others, so that not all test figures may be looked at."""
        return any(not row.shown for row in self.rows)


def setting(value: Any) -> Any:
    """A value as it is compared: 3 and 3.0 are one temperature."""
    if isinstance(value, list):
        return json.dumps(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": setting(value)}
    return found


def settings_of(run: Folder) -> dict[str, Any]:
    """What decided the run but its seed and its data, and what decided the stages before it and not itself."""
    own = flat({key: value for key, value in run.config.items() if key not in NOT_SETTINGS})
    if "hint_layer" in run.result.get("hint", {}):  # as found in the networks, whatever word was typed
        own |= {"hint.teacher_layer": run.result["hint"]["hint_layer"]}
    if "guided_layer" in run.result.get("hint", {}):
        own |= {"hint.student_layer": run.result["hint"]["guided_layer"]}
    before: dict[str, Any] = {}
    for role, parent in run.parents.items():
        if role == "found":
            continue
        theirs = settings_of(parent) | ({"seed": float(parent.seed)} if role == "teacher" else {})
        before |= {key if key not in own else f"{role} {key}": value for key, value in theirs.items()}
    return before | own


def rows_of(runs: Iterable[Folder]) -> tuple[list[Row], int]:
    """The rows in the order of arms, and how many runs are left out for a newer one with the same settings and seed."""
    found: dict[str, dict[int, Folder]] = {}
    repeated = 0
    for run in sorted(runs, key=lambda run: (run.path / "result.json").stat().st_mtime):
        seed = 0 if run.config["stage"] == "teacher" else run.seed
        own = settings_of(run) | ({"seed": float(run.seed)} if run.config["stage"] == "teacher" else {})
        by_seed = found.setdefault(json.dumps([run.config["arm"], own], sort_keys=True), {})
        repeated += seed in by_seed
        by_seed[seed] = run
    rows = []
    for key, by_seed in found.items():
        arm, settings = json.loads(key)
        rows.append(Row(arm, settings, [by_seed[seed] for seed in sorted(by_seed)]))
    named(rows)
    order = ["teacher", *ARM_NAMES]
    return sorted(rows, key=lambda row: (order.index(row.arm) if row.arm in order else 99, natural(row))), repeated


def named(rows: Sequence[Row]) -> None:
    """Name every row by the fewest settings that tell it from the others."""
    keys = sorted({key for row in rows for key in row.settings})
    telling: list[str] = []
    groups = len({row.arm for row in rows})
    for key in [*(key for key in TELLING if key in keys), *(key for key in keys if key not in TELLING)]:
        parts = {(row.arm, *(str(row.settings.get(k)) for k in [*telling, key])) for row in rows}
        if len(parts) > groups:
            telling, groups = [*telling, key], len(parts)
    several = len({row.arm for row in rows}) > 1
    for row in rows:
        row.names = {title_of(key): told_value(key, row.settings[key]) for key in telling if key in row.settings}
        of_arm = [other for other in rows if other.arm == row.arm]
        varied = [key for key in telling if len({str(other.settings.get(key)) for other in of_arm}) > 1]
        words = []
        if pair_varies := any(key in varied for key in PAIR) and all(key in row.settings for key in PAIR):
            words = [" ← ".join(str(row.settings[key]) for key in PAIR)]
        for key in varied:
            if key in row.settings and not (pair_varies and key in PAIR):
                value = told_value(key, row.settings[key])
                words.append(value if key in OBVIOUS else f"{title_of(key)} {value}")
        row.label = ", ".join([*([arm_name(row.arm)] if several or not words else []), *words])


def title_of(key: str) -> str:
    return TITLES.get(key, key.removeprefix("recipe.").replace("_", " "))


def told_value(key: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).rpartition(".")[2] if key.endswith("_target_") else str(value)


def arm_name(arm: str) -> str:
    return ARM_NAMES.get(arm, arm.replace("_", " "))


def natural(row: Row) -> list[tuple[float, str]]:
    """Numbers by size, words by the alphabet, conv2 before conv10."""
    return [order(value) for value in row.names.values()]


def order(value: str) -> tuple[float, str]:
    digits = value[len(value.rstrip("0123456789")) :]
    try:
        return float(value), ""
    except ValueError:
        return float(digits or 0), value


def problems_of(folders: Sequence[Folder], fixed: bool = False) -> list[Problem]:
    """The given runs by what may be compared; their teachers and hint stages come with them.

    Within an arm with several settings the row with the best validation accuracy (then NLL) is chosen and the test
    figures of the others are not looked at, unless the rows were `fixed` in advance.
    """
    before = {ancestor.name for folder in folders for ancestor in folder.ancestors()}
    everything = with_ancestors(folders)
    found_only = {run.parents["found"].name for run in everything if "found" in run.parents}  # retrained since
    groups: dict[str, list[Folder]] = {}
    for run in folders:
        if run.name not in found_only and (run.is_student or run.name not in before):
            of = {key: run.config.get(key) for key in ("dataset", "split_seed")} | {"labels": run.result["labels"]}
            groups.setdefault(json.dumps(of, sort_keys=True), []).append(run)
    problems = []
    splits = {json.loads(key)["split_seed"] for key in groups}
    for key, runs in groups.items():
        of = json.loads(key)
        family = [run for run in with_ancestors(runs) if run.name not in found_only]
        students, repeated = rows_of(run for run in runs if run.is_student)
        teachers, _ = rows_of(run for run in family if run.config["stage"] == "teacher" and run.result["epochs"])
        hints, _ = rows_of(run for run in family if run.config["stage"] == "hint" and not run.helps_score)
        for row in teachers:
            row.label = "teacher" if len(teachers) == 1 else f"teacher {row.label}"
        if len(hints) == 1:
            hints[0].label = "hint stage"
        labels = "all labels" if of["labels"] == "all" else f"{of['labels']} labels"
        split = f", split {of['split_seed']}" if len(splits) > 1 else ""
        wrong = of["dataset"].get("label_noise")
        noise = f", {wrong:.0%} wrong labels" if wrong else ""
        problem = Problem(
            f"{of['dataset']['name']}, {labels}{noise}{split}", students, teachers, hints, repeated, fixed
        )
        if not fixed:
            choose(problem.rows)
        problems.append(problem)
    return problems


def choose(rows: Sequence[Row]) -> None:
    """Show the test figures of an arm's best row on validation alone."""
    for arm in {row.arm for row in rows}:
        of_arm = [row for row in rows if row.arm == arm]
        best = max(of_arm, key=standing)
        for row in of_arm:
            row.shown = row is best


def standing(row: Row) -> tuple[float, float]:
    accuracy, nll = row.validation("accuracy"), row.validation("nll")
    return (accuracy.mean if accuracy else -1.0, -nll.mean if nll else 0.0)


def against_backprop(row: Row, problem: Problem) -> tuple[float, float | None] | None:
    """The mean paired difference in test accuracy to plain backprop of the same student, and its 95 % half width."""
    student = row.first.result["student"]
    base = [other for other in problem.students if other.arm == "backprop" and other.shown]
    base = [other for other in base if other.first.result["student"] == student]
    if row.arm in ("backprop", "teacher") or not row.shown or len(base) != 1:
        return None
    ours = {run.seed: run.result["test_accuracy"] for run in row.runs}
    theirs = {run.seed: run.result["test_accuracy"] for run in base[0].runs}
    if not set(ours) <= set(theirs):
        return None
    if len(ours) == 1:
        return mean(ours[seed] - theirs[seed] for seed in ours), None
    return paired_difference(ours, theirs)
