"""What of a curriculum decides a training, and the run of its score. Imports no torch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fitnets.data.identity import content_of_file
from fitnets.store import NO_CURRICULUM, Arm, Run

POOL = "fitnets.curriculum.pool.Curriculum"
SELF_PACED = "fitnets.curriculum.callbacks.SelfPaced"
SCORING = "fitnets.curriculum.scores.score_samples"
NOT_OPTIONS = ("name", "needs", "content")  # of a score's YAML: what its function is not given


def is_dynamic(given: Mapping[str, Any]) -> bool:
    """Whether samples are scored anew while the student is trained (self-paced)."""
    return given != NO_CURRICULUM and given["score"]["needs"] == "current_loss"


def score_needed(given: Mapping[str, Any]) -> str:
    """Whether a student needs the score computed before: "order" ranks by it, "figures" only draws it, or ""."""
    if given == NO_CURRICULUM or is_dynamic(given):
        return ""
    if given["order"]["name"] != "random":
        return "order"
    return "figures" if given.get("figures") else ""


def spec(given: Mapping[str, Any]) -> dict[str, Any]:
    """What of the curriculum decides a training, however it was typed; the score, where it is fixed, is a parent."""
    if given == NO_CURRICULUM:
        return dict(NO_CURRICULUM)
    order, dynamic = given["order"]["name"], is_dynamic(given)
    decides = {"name": "self_paced" if dynamic and order == "easy_to_hard" else order, "_target_": POOL}
    if order != "random":
        score = given["score"]
        decides["score"] = score | {"_target_": SELF_PACED} if dynamic else {"name": score["name"]}
    return decides | {key: given[key] for key in ("order", "pacing", "balanced")}


def score_run(
    config: Any, stage_run: Callable[[Any], Run], data_spec: Mapping[str, Any], sources: Mapping[str, str]
) -> Run:
    """How hard each training sample is, by `curriculum.score`; what it needs is trained before, without curriculum.

    All labels are used, as a teacher uses them; one score serves every seed, stage and order.
    """
    score = config["curriculum"]["score"]
    described = {key: value for key, value in score.items() if key not in ("needs", "path")}
    if "path" in score:
        described["content"] = content_of_file(score["path"])
        sources = {**sources, "score_path": score["path"]}
    plain = {"curriculum": NO_CURRICULUM, "keep": "last", "patience": None, "updates_per_epoch": None}
    plain = config.changed(plain | {"dataset.labels": "all", "retrain_on_all": False})
    needed = runs_needed(plain, score, stage_run)
    return Run(
        stage="score",
        title="score",
        target=SCORING,
        trains="score",
        arm=Arm("score", "score"),
        seed=config["split_seed"],
        spec={**data_spec, "score": described, "epochs": 0},
        parents={role: replace(run, for_score=run.trains != "teacher") for role, run in needed.items()},
        tested=False,
        sources=dict(sources),
    )


def runs_needed(config: Any, score: Mapping[str, Any], stage_run: Callable[[Any], Run]) -> dict[str, Run]:
    """What is trained before a score, by role, as its YAML says under `needs`. Raises KeyError for another word."""

    def student(**more: Any) -> Run:
        epochs = {"epochs.hint": 0, "epochs.kd": score["epochs"], "seed": score["seed"]}
        run = stage_run(config.changed(epochs).at_stage("backprop"))
        return replace(run, spec=run.spec | more)

    def hint() -> Run:
        return stage_run(config.changed({"epochs.hint": score["epochs"], "seed": score["seed"]}).at_stage("hint"))

    def folds() -> dict[str, Run]:
        found = {}
        for repeat in range(score["repeats"]):
            for fold in range(score["folds"]):
                run = student(held_out=[fold, score["folds"], repeat])
                found[f"fold{fold}_{repeat}"] = replace(run, seed=score["seed"] + repeat)
        return found

    needed: dict[str, Callable[[], dict[str, Run]]] = {
        "nothing": dict,
        "teacher": lambda: {"teacher": stage_run(config.at_stage("teacher"))},
        "student": lambda: {"student": student()},
        "history": lambda: {"student": student(history=True)},
        "folds": folds,
        "hint": lambda: {"hint": hint()},
    }
    return needed[score["needs"]]()
