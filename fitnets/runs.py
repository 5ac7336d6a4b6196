"""The plan: which trained stages a command needs, which are already on disk, run the rest.

A Run is one trained stage. Its fingerprint hashes everything that decides its result, and nothing else, so a
finished run with the same fingerprint is reused by any command, and a changed line makes a new one. This file
imports neither torch nor Lightning: planning takes milliseconds.
"""

import hashlib
import json
import pickletools
import shutil
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fitnets.components import source_hash, targets
from fitnets.data.identity import content, content_of_file
from fitnets.data.variants import how_answered

# Raise a number by hand when the code behind that stage changes its result: its module, the losses, the layers, the
# optimizer, the training. A change of fitnets/data/module.py or batches.py concerns all of them.
STAGE_VERSIONS = {"teacher": 3, "score": 2, "backprop": 3, "hint": 3, "kd": 3, "label_hint": 2, "joint": 2}


@dataclass(frozen=True)
class Run:
    """One trained stage: what decides it (`spec`) and the runs it starts from (`parents`, by role)."""

    stage: str  # a key of STAGE_VERSIONS
    arm: str  # teacher or one of ARMS: the way to a trained student that it belongs to
    seed: int
    spec: dict[str, Any]
    parents: dict[str, "Run"] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)  # where its data lies and is kept: decides nothing
    order: str = ""  # of stage=controls: its place in that table, decides nothing
    beside: dict[str, "Run"] = field(default_factory=dict)  # what its figures are drawn from: decides nothing

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
    def needed(self) -> dict[str, "Run"]:
        """The runs that must be finished before it, by role."""
        return self.beside | self.parents

    @property
    def column(self) -> str:
        """What a plan's table calls it: its arm, or its order among the controls."""
        return self.order or self.arm

    @property
    def net_name(self) -> str:
        if self.stage == "score":
            return self.spec["score"]["name"]
        return self.spec["teacher" if self.stage == "teacher" else "student"]["name"]

    @property
    def name(self) -> str:
        """Folder under runs_dir: readable, and unique by the start of the fingerprint."""
        dataset = self.spec["dataset"]["name"]
        return f"{self.stage}-{self.net_name}-{dataset}-s{self.seed}-{self.fingerprint[:10]}"

    @property
    def kind(self) -> str:
        if self.stage == "score":
            return f"score {self.net_name}"
        after = f" after {self.parents['hint'].stage}" if "hint" in self.parents else ""
        untrained = " (untrained)" if self.spec["epochs"] == 0 else ""
        return f"{self.stage} {self.net_name}{untrained}{after}{self.ordered}"

    @property
    def ordered(self) -> str:
        """Its curriculum in words, "" without one."""
        curriculum = self.spec.get("curriculum", NO_CURRICULUM)
        if curriculum["name"] == "none":
            return ""
        parts = [curriculum[part]["name"] for part in ("score", "pacing") if part in curriculum]
        return f", {curriculum['name']} ({', '.join([*parts, *['balanced'] * curriculum['balanced']])})"

    @property
    def only_labelled(self) -> bool:
        """Whether its batches are drawn from the samples with labels alone, as it has no use for others."""
        return self.stage in ("backprop", "label_hint") or self.spec.get("task") == "backprop"

    def __str__(self) -> str:
        again = ", retrained on all" if "found" in self.parents else ""
        fold = f", without fold {self.spec['held_out'][0]}" if "held_out" in self.spec else ""
        return f"{self.kind} seed {self.seed}{fold}{again}"


def _canonical(value: Any) -> Any:
    """The same value written the same way: 3 and 3.0 are one temperature."""
    if isinstance(value, dict):
        return {key: _canonical(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_canonical(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


# --------------------------------------------------------------------------------------------- plan

RECIPE = ("optimizer", "lr_schedule", "lr_end", "conv_lr_scale", "momentum", "max_norm", "batch_size", "keep")
ARMS = (  # ways to a trained student, with equal updates
    *("backprop", "kd", "fitnet"),
    # the alternatives that the paper says failed (section 3.1): label hint then labels, then KD; both jointly
    *("label_hint_backprop", "label_hint_kd", "joint_label_backprop", "joint_label_kd"),
    # our controls: teacher hint and KD in one stage; hints of an untrained teacher; guided half frozen in stage 2
    *("joint_hint_kd", "random_teacher", "frozen_guided"),
)
NO_CURRICULUM = {"name": "none"}
ORDERS = ("iid", "random", "hard_to_easy", "easy_to_hard")  # arms of stage=controls; iid: no curriculum


POSITION = ("teacher_layer", "student_layer")


def plan(cfg: dict[str, Any]) -> list[Run]:
    """The runs that a command names, in order; their parents come with them (see with_parents).

    `stage` is a trained stage (teacher, backprop, hint, kd) or a plan: `fitnet` is hint then kd, as any arm may be
    named, `compare` is every arm for every seed, `positions` FitNets for every pair of layers and seed, `controls` one
    arm (`stage.arm`) in each order of the curriculum for every seed; `score` is the curriculum's score. Arms get equal
    updates: those of one stage train epochs.hint + epochs.kd. With `retrain_on_all` each run is followed by its own
    retraining on train and validation images.
    """
    stage, seed = cfg["stage"]["name"], cfg["seed"]
    if stage == "compare":
        runs = [run for seed in cfg["seeds"] for arm in cfg["stage"]["arms"] for run in arm_runs(cfg, arm, seed)]
    elif stage == "controls":
        runs = [run for seed in cfg["seeds"] for order in cfg["stage"]["orders"] for run in in_order(cfg, order, seed)]
    elif stage == "score":
        runs = [score_run(cfg)]
    elif stage == "positions":  # the pairs were found before (fitnets.positions), with the networks' shapes
        at = [cfg | {"hint": cfg["hint"] | dict(zip(POSITION, pair, strict=True))} for pair in cfg["stage"]["pairs"]]
        runs = [run for here in at for seed in cfg["seeds"] for run in arm_runs(here, "fitnet", seed)]
    elif stage == "teacher":
        runs = [teacher_run(cfg)]
    elif stage == "hint":
        runs = [hint_run(cfg, seed)]
    else:
        runs = arm_runs(cfg, stage, seed)
    return [retrained(run) for run in runs] if cfg["retrain_on_all"] else runs


def retrained(run: Run) -> Run:
    """The run again, on train and validation images, for as many epochs as `run` found best on validation."""
    recipe = run.spec["recipe"] | {"keep": "last"}
    parents = {role: retrained(parent) for role, parent in run.parents.items()} | {"found": run}
    return replace(run, spec=run.spec | {"train_on": "all", "patience": None, "recipe": recipe}, parents=parents)


def with_parents(runs: Iterable[Run]) -> list[Run]:
    """The runs with all that they start from, parents first, each once."""
    ordered: dict[str, Run] = {}
    for run in runs:
        for needed in (*with_parents(run.needed.values()), run):
            ordered.setdefault(needed.fingerprint, needed)
    return list(ordered.values())


def arm_runs(cfg: dict[str, Any], arm: str, seed: int) -> list[Run]:
    """The stages of one arm, the trained student last."""
    if arm == "frozen_guided":
        cfg = cfg | {"guided_lr_scale": 0.0}
    if arm in ("fitnet", "frozen_guided", "random_teacher"):
        hint = hint_run(cfg, seed, untrained=arm == "random_teacher")
        runs = [hint, kd_run(cfg, seed, hint)]
    elif arm in ("label_hint_backprop", "label_hint_kd"):
        hint = label_hint_run(cfg, seed)
        runs = [hint, backprop_run(cfg, seed, hint) if arm.endswith("backprop") else kd_run(cfg, seed, hint)]
    elif arm.startswith("joint_"):
        runs = [joint_run(cfg, seed, side=arm.split("_")[1], task=arm.split("_")[2])]
    else:
        runs = [kd_run(cfg, seed) if arm == "kd" else backprop_run(cfg, seed)]
    return [replace(run, arm=arm) for run in runs]


def in_order(cfg: dict[str, Any], order: str, seed: int) -> list[Run]:
    """The stages of `stage.arm` with the curriculum's samples in that order, or without curriculum (iid)."""
    curriculum = NO_CURRICULUM if order == "iid" else cfg["curriculum"] | {"order": {"name": order}}
    scored = not is_dynamic(cfg) and {"easy_to_hard", "hard_to_easy"} & {*cfg["stage"]["orders"]}
    beside = {"score": score_run(cfg)} if order == "random" and scored else {}  # it shows the ordered ones' tenths
    runs = arm_runs(cfg | {"curriculum": curriculum}, cfg["stage"]["arm"], seed)
    return [replace(run, order=order, beside=beside) for run in runs]


def score_run(cfg: dict[str, Any]) -> Run:
    """How hard each training sample is, by `curriculum.score`; what it needs is trained before, without curriculum.

    All labels are used, as a teacher uses them; one score serves every seed, stage and order.
    """
    score = cfg["curriculum"]["score"]
    cfg = cfg | {"curriculum": NO_CURRICULUM, "keep": "last", "patience": None, "updates_per_epoch": None}
    cfg["dataset"] = cfg["dataset"] | {"labels": "all"}
    spec = _common(cfg) | {"score": {key: value for key, value in score.items() if key not in ("needs", "path")}}
    where = _where(cfg)
    if "path" in score:
        spec["score"]["content"] = content_of_file(score["path"])
        where["score_path"] = score["path"]
    parents: dict[str, Run] = {}
    if score["needs"] == "teacher":
        parents["teacher"] = teacher_run(cfg)
    elif score["needs"] in ("student", "history", "folds"):
        first = backprop_run(cfg | {"epochs": cfg["epochs"] | {"hint": 0, "kd": score["epochs"]}}, score["seed"])
        if score["needs"] == "folds":
            for repeat in range(score["repeats"]):
                for fold in range(score["folds"]):
                    held_out = first.spec | {"held_out": [fold, score["folds"], repeat]}
                    parents[f"fold{fold}_{repeat}"] = replace(first, seed=score["seed"] + repeat, spec=held_out)
        else:
            history = {"history": True} if score["needs"] == "history" else {}
            parents["student"] = replace(first, spec=first.spec | history)
    elif score["needs"] == "hint":
        parents["hint"] = hint_run(cfg | {"epochs": cfg["epochs"] | {"hint": score["epochs"]}}, score["seed"])
    parents = {role: run if role == "teacher" else replace(run, arm="score") for role, run in parents.items()}
    return Run("score", "score", cfg["split_seed"], spec | {"epochs": 0}, parents, where)


def teacher_run(cfg: dict[str, Any], untrained: bool = False) -> Run:
    """On all labels, with the recipe in its own YAML: nothing that concerns the student moves it."""
    teacher = {key: cfg["teacher"][key] for key in ("name", "net", "init")}
    recipe = {key: value for key, value in cfg["teacher"]["recipe"].items() if key not in ("epochs", "augment")}
    spec = _common(cfg) | {"teacher": teacher, "recipe": recipe, "augment": cfg["teacher"]["recipe"]["augment"]}
    spec["epochs"] = 0 if untrained else cfg["epochs"]["teacher"] or cfg["teacher"]["recipe"]["epochs"]
    return Run("teacher", "teacher", cfg["teacher_seed"], spec, {}, _where(cfg))


def backprop_run(cfg: dict[str, Any], seed: int, hint: Run | None = None) -> Run:
    spec = _common(cfg) | _student(cfg) | {"labels": cfg["dataset"]["labels"]}
    spec["epochs"] = cfg["epochs"]["kd"] if hint else _both(cfg)
    return Run("backprop", "backprop", seed, spec, ({"hint": hint} if hint else {}) | _score(cfg), _where(cfg))


def label_hint_run(cfg: dict[str, Any], seed: int) -> Run:
    """The guided half trained on labels through a classifier of its own, in the place of the hint stage."""
    spec = _common(cfg) | _student(cfg | {"keep": "best"})
    spec |= {"labels": cfg["dataset"]["labels"], "guided_layer": str(cfg["hint"]["student_layer"])}
    return Run("label_hint", "label_hint", seed, spec | {"epochs": cfg["epochs"]["hint"]}, _score(cfg), _where(cfg))


def joint_run(cfg: dict[str, Any], seed: int, side: str, task: str) -> Run:
    """One stage with the sum of two losses: the student's task, and labels or the hint at the guided layer."""
    base = kd_run(cfg, seed) if task == "kd" else backprop_run(cfg, seed)
    spec = base.spec | {"side": side, "task": task, "hint": _hint(cfg)}
    return Run("joint", "joint", seed, spec, base.parents, _where(cfg))


def hint_run(cfg: dict[str, Any], seed: int, untrained: bool = False) -> Run:
    """Needs no label and knows no temperature, so sweeps over either share it.

    It always hands on the weights with the best validation hint loss (paper section 2.3), whatever `keep` says.
    """
    spec = _common(cfg) | _student(cfg | {"keep": "best"})
    spec |= {"hint": _hint(cfg), **_answers(cfg), "epochs": cfg["epochs"]["hint"]}
    return Run("hint", "fitnet", seed, spec, {"teacher": teacher_run(cfg, untrained)} | _score(cfg), _where(cfg))


def kd_run(cfg: dict[str, Any], seed: int, hint: Run | None = None) -> Run:
    spec = _common(cfg) | _student(cfg) | {"labels": cfg["dataset"]["labels"], **_answers(cfg)}
    name = cfg["kd_loss"]["name"]  # alpha is Hinton's, lambda the paper's
    loss = cfg["kd_loss"] if name == "hinton" else {"name": name, "lambda_schedule": cfg["lambda_schedule"]}
    spec |= {"temperature": cfg["temperature"], "kd_loss": loss}
    spec["epochs"] = cfg["epochs"]["kd"] if hint else _both(cfg)
    if hint:
        spec["guided_lr_scale"] = cfg["guided_lr_scale"]
    parents = {"teacher": teacher_run(cfg)} | ({"hint": hint} if hint else {}) | _score(cfg)
    return Run("kd", "fitnet" if hint else "kd", seed, spec, parents, _where(cfg))


def _both(cfg: dict[str, Any]) -> int:
    return cfg["epochs"]["hint"] + cfg["epochs"]["kd"]


def _common(cfg: dict[str, Any]) -> dict[str, Any]:
    dataset = {key: value for key, value in cfg["dataset"].items() if key not in ("labels", "path", "cache_dir")}
    if not dataset.get("label_noise"):
        dataset.pop("label_noise", None)
    if "path" in cfg["dataset"]:
        dataset["content"] = content(cfg["dataset"]["path"])
    return {
        "dataset": dataset,
        "preprocess": cfg["preprocess"],
        "split_seed": cfg["split_seed"],
        "precision": cfg["trainer"]["precision"],
    }


def _where(cfg: dict[str, Any]) -> dict[str, str]:
    return {key: cfg["dataset"][key] for key in ("path", "cache_dir") if key in cfg["dataset"]}


def _answers(cfg: dict[str, Any]) -> dict[str, str]:
    how = how_answered(cfg["answers"], cfg["augment"])
    return {"answers": how} | ({"answers_dtype": cfg["answers_dtype"]} if how == "cached" else {})


def _hint(cfg: dict[str, Any]) -> dict[str, Any]:
    layers = {key: str(cfg["hint"][key]) for key in ("teacher_layer", "student_layer")}  # "5" is a module's name too
    return cfg["hint"] | layers


def _student(cfg: dict[str, Any]) -> dict[str, Any]:
    return {
        "student": cfg["student"],
        "curriculum": _curriculum(cfg),
        "init": cfg["init"],
        "augment": {key: cfg["augment"][key] for key in ("flip", "crop", "variants")},
        "patience": cfg["patience"],
        "recipe": {key: cfg[key] for key in RECIPE},
    } | ({"updates_per_epoch": cfg["updates_per_epoch"]} if cfg["updates_per_epoch"] else {})


RANKED_BY = {"version": 2}  # raised by hand when a stage's `sample_losses` change


def _curriculum(cfg: dict[str, Any]) -> dict[str, Any]:
    """What of the curriculum decides a training, however it was typed; the score, where it is fixed, is a parent."""
    given = cfg["curriculum"]
    if given["name"] == "none":
        return NO_CURRICULUM
    order, dynamic = given["order"]["name"], is_dynamic(cfg)
    what = {"name": "self_paced" if dynamic and order == "easy_to_hard" else order}
    if order != "random":
        what |= {"score": given["score"] | RANKED_BY if dynamic else {"name": given["score"]["name"]}}
    return what | {key: given[key] for key in ("order", "pacing", "balanced")}


def is_dynamic(cfg: dict[str, Any]) -> bool:
    """Whether samples are scored anew while the student is trained (self-paced)."""
    return cfg["curriculum"]["name"] != "none" and cfg["curriculum"]["score"]["needs"] == "current_loss"


def _score(cfg: dict[str, Any]) -> dict[str, Run]:
    """The score among a student's parents; a random order and a dynamic score need none."""
    if cfg["curriculum"]["name"] == "none" or cfg["curriculum"]["order"]["name"] == "random" or is_dynamic(cfg):
        return {}
    return {"score": score_run(cfg)}


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


def resumes_at(run: Run, runs_dir: Path) -> int | None:
    """The epoch at which a half-finished run goes on; None where its checkpoint does not say.

    A checkpoint is a zip file with a pickle; this scans it for the one number and runs nothing of it: planning needs
    no torch.
    """
    try:
        with zipfile.ZipFile(folder_of(run, runs_dir) / "last.ckpt") as file:
            (name,) = (name for name in file.namelist() if name.endswith("data.pkl"))
            operations = pickletools.genops(file.read(name))
            for _, argument, _ in operations:
                if argument == "resumes_at_epoch":
                    return next(value for code, value, _ in operations if code.name.startswith("BININT"))
    except (OSError, ValueError, zipfile.BadZipFile):
        pass  # the training that resumes says what is wrong with it
    return None


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
        parents = {role: folder_of(parent, runs_dir) for role, parent in run.needed.items()}
        train(run, folder_of(run, runs_dir), parents)
        result = read_result(run, runs_dir)
        assert result is not None, f"{run} ended without a result"
        return result, True
    finally:
        lock.release()
