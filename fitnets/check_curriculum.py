"""Checks of the curriculum's three parts. Needs no torch."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from fitnets.components import problem_with
from fitnets.runs import ARMS, NO_CURRICULUM, ORDERS, Run, plan, with_parents

PARTS = ("score", "order", "pacing")
WHOLES = "easy_to_hard | hard_to_easy | random | self_paced"
SCORE_ORDERS = ("easy_to_hard", "hard_to_easy", "random")
NEEDS = {  # what a score needs -> the keys that its YAML must have for that
    "nothing": (),
    "teacher": (),
    "student": ("epochs", "seed"),
    "history": ("epochs", "seed"),
    "folds": ("epochs", "seed", "folds", "repeats"),
    "hint": ("epochs", "seed"),
    "current_loss": ("every",),
}
CONF = Path(__file__).parent.parent / "conf" / "curriculum"

NUMBERS = {  # key below curriculum -> what it must be, test
    "pacing.start": ("a number > 0 and <= 1", lambda v: 0 < v <= 1),
    "pacing.full_at": ("a number > 0 (above 1: the whole set is never reached)", lambda v: v > 0),
    "pacing.power": ("a number > 0", lambda v: v > 0),
    "pacing.increase": ("a number > 1", lambda v: v > 1),
    "pacing.every": ("a number > 0 and <= 1", lambda v: 0 < v <= 1),
    "pacing.epochs": ("a number > 0", lambda v: v > 0),
    "score.regularisation": ("a number > 0", lambda v: v > 0),
}
WHOLE = {  # key below curriculum -> smallest value
    "score.epochs": 1,
    "score.seed": 0,
    "score.folds": 2,
    "score.repeats": 1,
    "score.components": 1,
    "score.every": 1,
}


def check_curriculum(cfg: dict[str, Any]) -> list[str]:
    """Problems with `curriculum`, and with the stages and keys that go with it or do not."""
    given, stage = cfg["curriculum"], cfg["stage"]["name"]
    if given["name"] == "none":
        if stage in ("score", "controls"):
            return [f"stage={stage} needs a curriculum: type curriculum=easy_to_hard (and curriculum/score=NAME)"]
        if parts := sorted(given.keys() - {"name"}):
            told = ", ".join(parts)
            how = f"plain shuffles have none: type curriculum= one of: {WHOLES}"
            return [f"curriculum.name is none, with {told} given; {how}"]
        return []
    problems = unknown_keys("curriculum", given, ("name", *PARTS, "balanced"))
    for part in PARTS:
        if not isinstance(given.get(part), dict):
            names = ", ".join(sorted(file.stem for file in (CONF / part).glob("*.yaml")))
            problems.append(
                f"curriculum.{part} is {given.get(part)!r}; it is a part of its own: type curriculum/{part}=NAME with "
                f"one of: {names}"
            )
    if problems:
        return problems
    score, pacing = given["score"], given["pacing"]
    problems += unknown_keys("curriculum.order", given["order"], ("name",))
    if score.get("needs") == "current_loss":  # other scores' keys are those of their function
        problems += unknown_keys("curriculum.score", score, ("name", "needs", "every"))
    for part in PARTS:
        if not isinstance(given[part].get("name"), str):
            problems.append(f"curriculum.{part}.name is {given[part].get('name')!r}; it must be a name")
    if given["order"].get("name") not in SCORE_ORDERS:
        name = given["order"].get("name")
        problems.append(f"curriculum.order.name is {name!r}; type curriculum/order= one of: {' | '.join(SCORE_ORDERS)}")
    if score.get("needs") not in NEEDS:
        problems.append(f"curriculum.score.needs is {score.get('needs')!r}; it must be one of: {' | '.join(NEEDS)}")
    elif missing := [key for key in NEEDS[score["needs"]] if key not in score]:
        told = ", ".join(missing)
        problems.append(f"curriculum.score.needs is {score['needs']!r}, so curriculum.score must have: {told}")
    if given.get("balanced") not in (True, False):
        problems.append(f"curriculum.balanced is {given.get('balanced')!r}; type curriculum.balanced=true or false")
    for key, (expected, holds) in NUMBERS.items():
        part, _, name = key.partition(".")
        value = given[part].get(name, 1.5 if name == "increase" else 1)
        if not (_is_number(value) and holds(value)):
            problems.append(f"curriculum.{key} is {value!r}; it must be {expected}")
    for key, smallest in WHOLE.items():
        part, _, name = key.partition(".")
        value = given[part].get(name, smallest)
        if not (isinstance(value, int) and not isinstance(value, bool) and value >= smallest):
            problems.append(f"curriculum.{key} is {value!r}; it must be a whole number >= {smallest}")
    thresholds = pacing.get("thresholds", [])
    if not (isinstance(thresholds, list) and all(_is_number(value) and value >= 0 for value in thresholds)):
        problems.append(f"curriculum.pacing.thresholds is {thresholds!r}; it must be numbers, as [0.1,0.3]")
    if score.get("features", "pixels") not in ("pixels", "teacher"):
        problems.append(f"curriculum.score.features is {score['features']!r}; it must be pixels or teacher")
    if score.get("features") == "teacher" and score.get("needs") != "teacher":
        problems.append("curriculum.score.features=teacher: type curriculum/score=svm_margin_teacher, which has one")
    if score.get("name") == "file":
        problems += _check_file(score)
    targets = [("pacing", pacing)] + ([("score", score)] if score.get("needs") != "current_loss" else [])
    for part, spec in targets:
        target = spec.get("_target_")
        problem = problem_with(target) if isinstance(target, str) else "it must be a dotted path"
        if problem:
            problems.append(f"curriculum.{part}._target_={target}: {problem}")
    if stage == "teacher":
        problems.append("stage=teacher knows no curriculum, which orders a student's samples: type curriculum=none")
    if stage == "score" and score.get("needs") == "current_loss":
        problems.append("curriculum/score=current_loss is made while a student trains: stage=score needs another score")
    if stage == "positions" and score.get("needs") == "hint":
        problems.append("stage=positions moves the hint layers, and this score would move along: type another score")
    if cfg["retrain_on_all"]:
        problems.append("retrain_on_all trains on validation images, which have no score: type retrain_on_all=false")
    if stage == "controls":
        problems += _check_controls(cfg)
    return problems


def check_scoring(cfg: dict[str, Any], labels: Any, train: Any) -> list[str]:
    """Problems that show with the data: (N,) labels of the training file, and the train part's sample ids."""
    import numpy as np

    from fitnets.scores import numbers_in

    given = cfg["curriculum"]
    if given["name"] == "none":
        return []
    problems, score = [], given["score"]
    counts = labels[train].bincount()
    smallest = int(counts[counts > 0].min())
    if "folds" in score and score["folds"] > smallest:
        how = f"type curriculum.score.folds={min(5, smallest)}" if smallest > 1 else "no number of folds will do"
        problems.append(
            f"curriculum.score.folds is {score['folds']}; the smallest class has {smallest} training images, and each "
            f"fold needs one: {how}"
        )
    if score["name"] == "file":
        try:
            values = numbers_in(score["path"])
            finite = values.shape == (len(labels),) and bool(np.isfinite(values).all())
            told = f"holds numbers of shape {values.shape}"
        except (OSError, ValueError, EOFError) as error:
            finite, told = False, f"cannot be read ({error})"
        if not finite:
            problems.append(
                f"curriculum.score.path={score['path']} {told}; it must hold {len(labels)} finite numbers, one for "
                "each image of the training file (validation images too)"
            )
    arms = cfg | {"stage": {"name": "fitnet"}} if cfg["stage"]["name"] == "positions" else cfg  # its pairs are alike
    ordered = [run for run in with_parents(plan(arms)) if run.spec.get("curriculum", NO_CURRICULUM)["name"] != "none"]
    alike = {(run.stage, run.only_labelled, run.spec["epochs"]): run for run in ordered}  # all seeds are
    return [*problems, *dict.fromkeys(problem for run in alike.values() for problem in check_pool(run, len(train)))]


def check_pool(run: Run, samples: int) -> list[str]:
    """Problems with how the pool grows in a stage: it must have room to, must never fall, and must end full.

    `samples` is the size of the train part.
    """
    from fitnets.data.batches import per_epoch
    from fitnets.data.curriculum import pacing, pool_size

    spec = run.spec["curriculum"]["pacing"]
    batch_size, labels = run.spec["recipe"]["batch_size"], run.spec.get("labels", "all")
    batches_per_epoch = per_epoch(samples, batch_size, run.spec.get("updates_per_epoch"))
    updates = run.spec["epochs"] * batches_per_epoch
    pool = labels if run.only_labelled and labels != "all" else samples
    if batch_size >= pool:
        return [
            f"batch_size is {batch_size} and stage {run.stage} draws from {pool} samples, so its pool is full from the "
            f"start and the curriculum does nothing: type batch_size= well below {pool}, or in a comparison "
            "leave it out (stage.arms=[kd,fitnet])"
        ]
    told = f"curriculum.pacing {spec['_target_']}"
    try:
        pace = pacing(spec, updates, batches_per_epoch)
        fractions = [float(pace(update)) for update in range(updates)]
    except Exception as error:
        return [f"{told}: {type(error).__name__}: {error}"]
    falls = any(later < earlier for earlier, later in pairwise(fractions))
    if falls or not all(map(math.isfinite, fractions)) or not 0 < fractions[0] <= 1:
        looked_at = [updates * part // 5 for part in range(5)] + [updates - 1]
        gives = [round(fractions[update], 4) for update in looked_at]
        return [
            f"{told} gives {gives} at updates {looked_at} of {updates}; it must give fractions of the samples, from "
            "above 0 on, that never fall"
        ]
    let_in = pool_size(fractions[-1], pool, batch_size)
    if let_in < pool and not spec.get("full_at", 0) >= 1:
        how = ("" if "full_at" in spec else "curriculum/pacing=step ") + "curriculum.pacing.full_at=2"
        return [
            f"curriculum.pacing {spec['name']} has let in {let_in:,} of {pool:,} samples when stage {run.stage} ends "
            f"after {updates} updates: change curriculum.pacing.* or the epochs; to leave samples out on purpose type "
            f"{how}"
        ]
    return []


def unknown_keys(where: str, given: dict[str, Any], known: tuple[str, ...]) -> list[str]:
    return [f"{where}.{key} is no key; {where} has: {', '.join(known)}" for key in given if key not in known]


def _check_file(score: dict[str, Any]) -> list[str]:
    problems, path = [], score.get("path")
    if not isinstance(path, str) or not Path(path).expanduser().is_file():
        problems.append(f"curriculum.score.path is {path!r}; there is no such file: type curriculum.score.path=FILE")
    if score.get("higher_is") not in ("harder", "easier"):
        problems.append(f"curriculum.score.higher_is is {score.get('higher_is')!r}; it must be harder or easier")
    return problems


def _check_controls(cfg: dict[str, Any]) -> list[str]:
    problems, arm, orders = [], cfg["stage"].get("arm"), cfg["stage"].get("orders")
    if arm not in ARMS:
        problems.append(f"stage.arm is {arm!r}; type stage.arm= one of: {' | '.join(ARMS)}")
    fine = isinstance(orders, list) and orders and all(order in ORDERS for order in orders)
    if not fine or len(set(orders)) < len(orders):
        listed = " | ".join(ORDERS)
        problems.append(f"stage.orders is {orders!r}; type stage.orders=[...] with some of, each once: {listed}")
    return problems


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
