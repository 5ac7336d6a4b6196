"""What the page compares: the given runs by data set and labels, made into rows, one of each arm chosen.

A row is named by the fewest settings that tell it from the others.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fitnets.report.charts import DASHES, SERIES, Style
from fitnets.report.folders import Folder, with_ancestors
from fitnets.report.plots import styles_of
from fitnets.report.rows import Row, baseline_of, choose, natural

# Keys of config.yaml that are no settings of the method: names of the run, its seed, and the data, which is compared
NO_SETTINGS = ["stage", "title", "arm", "seed", "trains", "tested", "for_score", "fingerprint", "parents"]
NO_SETTINGS += ["figures_by", "data", "trainer", "split_seed", "labels", "dataset"]
# Keys that name a row, most telling first, with their titles; others follow where these do not tell two rows apart
TITLES = {
    "student.name": "student",
    "teacher.name": "teacher",
    "curriculum.name": "curriculum",
    "hint": "hint ← guided",
    "hint_loss._target_": "hint loss",
    "hint_loss.reduction": "reduction",
    "hint_loss.regressor.kind": "regressor",
    "kd_loss._target_": "KD loss",
    "kd_loss.temperature": "temperature",
    "kd_loss.alpha": "alpha",
    "init.name": "init",
    "recipe.optimizer._target_": "optimizer",
    "recipe.optimizer.lr": "learning rate",
}


@dataclass(eq=False)
class Comparison:
    """What may be compared: one data set and split with the same labels seen."""

    title: str
    students: list[Row]
    teachers: list[Row]
    hints: list[Row]  # stages that learned a hint before the student was whole
    repeated: int  # runs left out because a newer one has the same settings and seed
    styles: dict[Row, Style]

    @property
    def rows(self) -> list[Row]:
        return [*self.teachers, *self.students]

    @property
    def swept(self) -> bool:
        """Whether some row was chosen among others, so that not all test figures may be looked at."""
        return any(not row.chosen for row in self.rows)

    def baseline(self, row: Row) -> Row | None:
        """What the row is held against: a chosen row with the same student."""
        student, chosen = row.first.result["student"], [row for row in self.students if row.chosen]
        return baseline_of(other for other in chosen if other.first.result["student"] == student)


def comparisons_of(
    folders: Sequence[Folder], fixed: bool = False, arms: Mapping[str, str] | None = None
) -> list[Comparison]:
    """The given runs by what may be compared; their teachers and hint stages come with them.

    Within an arm with several settings the row that is best on validation is chosen and the test figures of the
    others are not looked at, unless the rows were `fixed` in advance. `arms`: an arm's title by a folder's name.
    """
    before = {run.name for folder in folders for run in with_ancestors(folder.parents.values())}
    searches = {run.search.name for run in with_ancestors(folders) if run.search is not run}  # retrained since
    groups: dict[str, list[Folder]] = {}
    for run in folders:
        if run.name not in searches and (run.is_student or run.name not in before):
            problem = [run.config["dataset"], run.config["split_seed"], run.result["labels"]]
            groups.setdefault(json.dumps(problem, sort_keys=True), []).append(run)
    several_splits = len({run.config["split_seed"] for run in folders}) > 1
    found = []
    for runs in groups.values():
        title = runs[0].data_text + (f", split {runs[0].config['split_seed']}" if several_splits else "")
        family = [run for run in with_ancestors(runs) if run.name not in searches]
        of_students = [run for run in runs if run.is_student]
        students, teachers = rows_of(of_students, arms), rows_of([run for run in family if run.is_teacher])
        steps = [run for run in family if run.of_student and not run.is_student]
        hints = rows_of([run for run in steps if "hint_loss" in run.result["validation"]])
        styles = styles_of(students, baseline_of(students)) | styles_of(hints)
        for number, row in enumerate(teachers):
            row.label = "teacher" if len(teachers) == 1 else f"teacher {row.label}"
            styles[row] = Style(SERIES[-1], dash=DASHES[number % len(DASHES)], marker="*")
        for arm in dict.fromkeys(row.arm for row in students) if not fixed else ():
            choose([row for row in students if row.arm == arm])
        if teachers and not fixed:
            choose(teachers)
        repeated = len(of_students) - sum(len(row.runs) for row in students)
        found.append(Comparison(title, students, teachers, hints, repeated, styles))
    return found


def rows_of(runs: Sequence[Folder], arms: Mapping[str, str] | None = None) -> list[Row]:
    """Runs that differ in nothing but the seed as one row; of two with the same seed the newer one.

    In the order of `arms`; without it the baseline first, then what takes fewer steps, each arm by its settings.
    """
    arms = arms or {}
    found: dict[str, dict[int, Folder]] = {}
    for run in sorted(runs, key=lambda run: (run.path / "result.json").stat().st_mtime):
        seed = 0 if run.config["trains"] == "teacher" else run.config["seed"]  # a teacher's seed is one of its settings
        found.setdefault(json.dumps(settings_of(run), sort_keys=True), {})[seed] = run
    rows = []
    for by_seed in found.values():
        of_row = [by_seed[seed] for seed in sorted(by_seed)]
        first = of_row[0].config  # a teacher and a part of a student stand for themselves, not for an arm
        usual = first["arm"]["title"] if of_row[0].is_student else first["title"]
        rows.append(Row(arms.get(of_row[0].name, usual), of_row))
    name_rows(rows)
    baseline = baseline_of(rows)
    order = list(dict.fromkeys(arms.values()))

    def place(row: Row) -> tuple[Any, ...]:
        given = order.index(row.arm) if row.arm in order else len(order)
        usual = (row is not baseline, len(row.first.steps), row.arm)
        return given, *usual, [natural(value) for value in row.at.values()]

    return sorted(rows, key=place)


@functools.lru_cache(maxsize=4096)
def settings_of(run: Folder) -> dict[str, Any]:
    """What decided the run but its seed and data, and what decided the runs before it and not itself."""
    own = {key: value for key, value in run.config.items() if key not in NO_SETTINGS}
    if run.layers:  # as found in the networks, whatever word was typed
        own["hint"] = " ← ".join(run.layers)
    own = flat(own) | {"stage": run.config["title"]}
    if run.config["trains"] == "teacher":
        own["seed"] = float(run.config["seed"])
    everything = dict(own)
    for role in [role for role in run.parents if role != "searched"]:
        for key, value in settings_of(run.parents[role]).items():
            taken = key in own or everything.get(key, value) != value
            everything[f"{role} {key}" if taken else key] = value
    return everything


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots; 3 and 3.0 are one temperature, a list is its JSON."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            found[prefix + key] = json.dumps(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + key] = float(value)
        else:
            found[prefix + key] = value
    return found


def name_rows(rows: Sequence[Row]) -> None:
    """Name every row by the fewest settings that tell it from the others: `at` and `label`."""
    telling = telling_keys(rows)
    several_arms = len({row.arm for row in rows}) > 1
    for row in rows:
        settings = settings_of(row.first)
        for key in [key for key in telling if key in settings]:
            title = TITLES.get(key, key.removeprefix("recipe.").replace("_", " "))
            row.at[title] = value_text(key, settings[key])
    for row in rows:
        of_arm = [other.at for other in rows if other.arm == row.arm]
        varied = [key for key in row.at if len({at.get(key) for at in of_arm}) > 1]
        words = [row.at[key] if "←" in key else f"{key} {row.at[key]}" for key in varied]
        row.label = ", ".join([*([row.arm] if several_arms or not words else []), *words])


def telling_keys(rows: Sequence[Row]) -> list[str]:
    """The keys that split rows of one arm, each kept only where it splits some that those before it did not."""
    keys = {key for row in rows for key in settings_of(row.first)}
    telling: list[str] = []
    groups = {row: row.arm for row in rows}
    for key in [*TITLES, *sorted(keys - TITLES.keys())]:
        split = {row: f"{group}, {settings_of(row.first).get(key)}" for row, group in groups.items()}
        if len(set(split.values())) > len(set(groups.values())):
            telling.append(key)
            groups = split
    return telling


def value_text(key: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).rpartition(".")[2] if key.endswith("_target_") else str(value)
