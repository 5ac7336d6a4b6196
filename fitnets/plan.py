"""The plan: which trained stages a command needs, parents first. Imports no torch.

A stage says all about itself in its YAML (conf/stage): what it needs, which labels it uses, what decides it. This file
puts that together with the config, and knows no stage by its name.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from fitnets import curriculum
from fitnets.data.identity import content
from fitnets.data.variants import how_answered
from fitnets.store import Arm, Run, retrained

RECIPE = ("optimizer", "lr_schedule", "lr_end", "conv_lr_scale", "momentum", "max_norm", "batch_size", "keep")


class Config(Protocol):
    """The config of a command: a mapping, and the same with another stage or other values (fitnets.commands)."""

    def __getitem__(self, key: str) -> Any: ...

    def at_stage(self, name: str) -> "Config": ...

    def changed(self, values: Mapping[str, Any]) -> "Config": ...


def plan(config: Config, arm: Arm | None = None) -> list[Run]:
    """The runs that a command names, in order; their parents come with them (see store.with_parents).

    A list of `steps` is a run for each, every one going on with the student of the one before. With
    `retrain_on_all` each is followed by its own retraining on train and validation images.
    """
    stage = config["stage"]
    if "runs" in stage:
        return [replace(run, next=None) for run in score_runs(config)]
    runs: list[Run] = []
    for name in stage.get("steps", [stage["name"]]):
        before = runs[-1] if runs else None
        runs.append(stage_run(config.at_stage(name), arm or Arm(stage["name"], stage["title"]), before))
    runs[-1] = replace(runs[-1], next=stage.get("next"))
    return [retrained(run) for run in runs] if config["retrain_on_all"] else runs


def stage_run(config: Config, arm: Arm | None = None, before: Run | None = None) -> Run:
    """One stage of the config, going on with the student of the step `before` it where there is one."""
    stage = config["stage"]
    describe = teacher_spec if stage["trains"] == "teacher" else student_spec
    spec = data_spec(config) | describe(config) | {"epochs": epochs_of(config, before)}
    if stage["labels"] != "none":
        spec["labels"] = config["dataset"]["labels"] if stage["labels"] == "visible" else "all"
    if stage.get("options"):
        spec["options"] = stage["options"]
    for key in stage["decided_by"]:
        _copy(config, key, spec)
    if stage.get("keep"):
        spec["recipe"] = spec["recipe"] | {"keep": stage["keep"]}
    parents = {role: stage_run(config.at_stage(name)) for role, name in stage["needs"].items()}
    figures_by: dict[str, Run] = {}
    if stage["trains"] == "student":
        if "teacher" in parents:
            spec |= answer_spec(config)
        if before:
            parents["student"] = before
            spec["guided_lr_scale"] = config["guided_lr_scale"]
        needed = curriculum.score_needed(config["curriculum"])
        if needed:
            score = {"score": score_runs(config)[0]}
            parents, figures_by = (parents | score, {}) if needed == "order" else (parents, score)
    return Run(
        stage=stage.get("kind") or stage["name"],
        title=stage["title"],
        target=stage["_target_"],
        trains=stage["trains"],
        arm=arm or Arm(stage["name"], stage["title"]),
        seed=config["teacher_seed" if stage["trains"] == "teacher" else "seed"],
        spec=spec,
        parents=parents,
        tested=stage["tested"],
        sources=data_sources(config),
        figures_by=figures_by,
    )


def score_runs(config: Config) -> list[Run]:
    """The curriculum's score: how hard each training sample is."""
    return [curriculum.score_run(config, stage_run, data_spec(config), data_sources(config))]


def epochs_of(config: Config, before: Run | None) -> int:
    """The stage's own epochs; or a teacher's; or for a student what the steps before have left of hint + kd."""
    stage, epochs = config["stage"], config["epochs"]
    if stage.get("epochs") is not None:
        return stage["epochs"]
    if stage["trains"] == "teacher":
        return epochs["teacher"] or config["teacher"]["recipe"]["epochs"]
    spent = 0
    while before:
        spent += before.spec["epochs"]
        before = before.parents.get("student")
    return epochs["hint"] + epochs["kd"] - spent


def data_spec(config: Config) -> dict[str, Any]:
    """What decides the data, by content: a moved folder is the same data."""
    given = config["dataset"]
    dataset = {key: value for key, value in given.items() if key not in ("labels", "path", "cache_dir")}
    if not dataset.get("label_noise"):
        dataset.pop("label_noise", None)
    if "path" in given:
        dataset["content"] = content(given["path"])
    return {
        "dataset": dataset,
        "preprocess": config["preprocess"],
        "split_seed": config["split_seed"],
        "precision": config["trainer"]["precision"],
    }


def data_sources(config: Config) -> dict[str, str]:
    """Where the data lies and is kept, which decides nothing."""
    return {key: config["dataset"][key] for key in ("path", "cache_dir") if key in config["dataset"]}


def teacher_spec(config: Config) -> dict[str, Any]:
    """With the recipe in the teacher's own YAML: nothing that concerns the student moves it."""
    teacher = config["teacher"]
    recipe = {key: value for key, value in teacher["recipe"].items() if key not in ("epochs", "augment")}
    return {
        "teacher": {key: teacher[key] for key in ("name", "net", "init")},
        "recipe": recipe,
        "augment": teacher["recipe"]["augment"],
    }


def student_spec(config: Config) -> dict[str, Any]:
    spec = {
        "student": config["student"],
        "curriculum": curriculum.spec(config["curriculum"]),
        "init": config["init"],
        "augment": {key: config["augment"][key] for key in ("flip", "crop", "variants")},
        "patience": config["patience"],
        "recipe": {key: config[key] for key in RECIPE},
    }
    if config["updates_per_epoch"]:
        spec["updates_per_epoch"] = config["updates_per_epoch"]
    return spec


def answer_spec(config: Config) -> dict[str, str]:
    how = how_answered(config["answers"], config["augment"])
    return {"answers": how} | ({"answers_dtype": config["answers_dtype"]} if how == "cached" else {})


def _copy(config: Config, key: str, spec: dict[str, Any]) -> None:
    """A key of the config, dotted or not, into the spec. A layer named by a number is a module's name too."""
    group, _, name = key.partition(".")
    value = config[group]
    if group == "hint":
        value = {side: _as_names(layers) for side, layers in value.items()}
    if name:
        spec.setdefault(group, {})[name] = value[name]
    else:
        spec[group] = value


def _as_names(layers: Any) -> Any:
    return [str(layer) for layer in layers] if isinstance(layers, list) else str(layers)
