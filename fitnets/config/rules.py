"""What keys of the config must be together. A rule is given the keys that its arguments name, and yields problems."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fitnets.config.schema import Group
from fitnets.config.wording import MISSING, did_you_mean, unknown_choice, value_at
from fitnets.data.identity import problem_with_path
from fitnets.data.variants import variants_of
from fitnets.signatures import problem_with

TRAINED = ("epochs", "seed")  # keys that a score must have for what it needs
NEEDS = {"student": TRAINED, "history": TRAINED, "folds": (*TRAINED, "folds", "repeats"), "hint": TRAINED}


def variants(answers: str, augment: Group) -> Iterator[str]:
    if answers == "cached" and variants_of(augment) is None:
        yield "answers is 'cached', but crops are drawn freely: type answers=online, or augment.variants=16"
    elif augment["variants"] and not (augment["flip"] or augment["crop"]):
        yield "augment.variants has nothing to vary: type augment=crop4_flip, or augment.variants=null"


def rising(momentum: Group | None, optimizer: Group, teacher: Group) -> Iterator[str]:
    student = {"momentum": momentum, "optimizer": optimizer}
    for key, recipe in {"momentum": student, "teacher.recipe.momentum": teacher["recipe"]}.items():
        if recipe.get("momentum") and "momentum" not in recipe["optimizer"]:
            yield f"{key} rises, but {recipe['optimizer']['_target_']} is given none: type {key}=null"


def folder_of_runs(runs_dir: str) -> Iterator[str]:
    if problem := problem_with_runs_dir(runs_dir):
        yield problem


def problem_with_runs_dir(given: str) -> str | None:
    """Why no run can lie there: a file is in the way. Whether anything may be written is asked where it must be."""
    if "\0" in given or any(len(part.encode()) > 200 for part in Path(given).parts):
        return f"runs_dir is {given!r}, which is no name that a folder can have: type runs_dir=FOLDER"
    place = Path(given).absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        return f"runs_dir is {given!r}, and {place} is no folder: type runs_dir=FOLDER"
    return None


def dataset_path(dataset: Group) -> Iterator[str]:
    if "path" in dataset and (problem := problem_with_path(dataset["path"])):
        yield problem


def loggers(logger: Group) -> Iterator[str]:
    chosen = list(logger)
    if not chosen:
        yield "logger is []; type logger=csv, or logger=none"
    elif "none" in chosen and len(chosen) > 1:
        yield f"logger is {chosen}; none stands alone: type logger=none, or leave it out of the list"
    elif "tensorboard" in chosen and not importlib.util.find_spec("tensorboard"):
        yield "logger=tensorboard needs a package: type pip install 'fitnets[tensorboard]'"


def enough_seeds(seeds: list[int], stage: Group) -> Iterator[str]:
    least = stage.get("min_seeds", 0)
    if least and (len(seeds) < least or len(set(seeds)) < len(seeds)):
        count = "one" if least == 1 else least
        yield f"seeds is {seeds!r}; it must be {count} or more different whole numbers: type seeds=[0,1,2]"


def equal_shares(trainer: Group, batch_size: int, teacher: Group) -> Iterator[str]:
    devices = trainer["devices"]
    for key, size in (("batch_size", batch_size), ("teacher.recipe.batch_size", teacher["recipe"]["batch_size"])):
        if size % devices:
            fits = max(devices, size - size % devices)
            yield f"{key} is {size}, which {devices} devices cannot share out equally: type {key}={fits}"


def ordered(curriculum: Group, stage: Group, retrain_on_all: bool) -> Iterator[str]:
    name = stage["name"]
    if curriculum["name"] == "none":
        if stage.get("needs_curriculum") or stage.get("needs_score"):
            yield f"stage={name} needs a curriculum: type curriculum=easy_to_hard (and curriculum/score=NAME)"
        elif len(curriculum) > 1:
            extra = ", ".join(sorted(curriculum.keys() - {"name"}))
            yield f"curriculum.name is none, with {extra} given; plain shuffles have none: type curriculum=easy_to_hard"
        return
    score = curriculum["score"]
    if missing := [key for key in NEEDS.get(score["needs"], ()) if key not in score]:
        yield f"curriculum.score.needs is {score['needs']!r}, so curriculum.score must have: {', '.join(missing)}"
    if score.get("features") == "teacher" and score["needs"] != "teacher":
        yield "curriculum.score.features=teacher: type curriculum/score=svm_margin_teacher, which has one"
    if "path" in score and not os.path.isfile(os.path.expanduser(str(score["path"]))):
        yield f"curriculum.score.path is {score['path']!r}; there is no such file: type curriculum.score.path=FILE"
    if stage.get("trains") == "teacher":
        yield f"stage={name} knows no curriculum, which orders a student's samples: type curriculum=none"
    if stage.get("needs_score") and score["needs"] == "current_loss":
        yield f"curriculum/score={score['name']} is made in training: stage={name} needs another score"
    if "pairs" in stage and score["needs"] == "hint":
        yield f"stage={name} moves the hint layers, and this score would move along: type another score"
    if retrain_on_all:
        yield "retrain_on_all trains on validation images, which have no score: type retrain_on_all=false"


RULES: list[Any] = [folder_of_runs, variants, rising, dataset_path, loggers, enough_seeds, equal_shares, ordered]


def named(config: Group, arms: list[str] | None) -> Iterator[str]:
    """Functions, keys and other stages that a stage names. `arms` are the stages and arms; None: they are not known."""
    stage = config["stage"]
    for key in ("_target_", "commands", "runs"):
        if key in stage and (problem := problem_with(stage[key])):
            yield f"stage.{key}={stage[key]}: {problem}"
    for key in stage.get("decided_by", []):
        if value_at(config, key) is MISSING:
            yield f"stage.decided_by names {key!r}, which is no key of the config"
    given = stage.get("arms", [])
    strange = [name for name in given if name not in (arms or given)]
    if strange or len(set(given)) < len(given):
        near = did_you_mean(strange[0], arms or []) if strange else ";"
        listed = " | ".join(arms or given)
        yield f"stage.arms is {given!r}{near} type stage.arms=[...] with some of, each once: {listed}"
    orders = stage.get("orders", [])
    if len(set(orders)) < len(orders):
        yield f"stage.orders is {orders!r}: type each once, as stage.orders=[{','.join(dict.fromkeys(orders))}]"
    if arms is None:
        return
    if stage.get("arm", arms[0]) not in arms:
        yield unknown_choice("stage.arm", stage["arm"], arms)
    for name in [*stage.get("steps", []), *stage.get("needs", {}).values()]:
        if name not in arms:
            yield f"stage={stage['name']} needs stage {name!r}, which is none{did_you_mean(name, arms)}".rstrip(";")
