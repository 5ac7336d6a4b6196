"""From a run's spec to its objects: data, networks with their initial weights, the stage's LightningModule."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fitnets import cost
from fitnets.components import build
from fitnets.data.module import DataModule
from fitnets.layers import Cut, declared_nonlinearity, plan_regressor, resolve_layer
from fitnets.load import build_net, load_student, load_teacher
from fitnets.runs import Run
from fitnets.seeds import derive
from fitnets.stages.classify import ClassifierModule
from fitnets.stages.hint import HintModule
from fitnets.stages.kd import KDModule
from fitnets.stages.teacher import FrozenTeacher, teacher_answers

PROBED = 512  # training images that decide whether a hint layer is ever negative


def make_data(run: Run) -> DataModule:
    """The run's data; a KD stage goes on in the data order where its hint stage ended."""
    data = DataModule(
        run.spec["dataset"],
        run.spec["split_seed"],
        run.spec["recipe"]["batch_size"],
        seed=run.seed,
        labels=run.spec.get("labels", "all"),
        only_labelled=run.stage == "backprop",
        first_epoch=run.parents["hint"].spec["epochs"] if "hint" in run.parents else 0,
    )
    data.setup()
    return data


def make_module(run: Run, data: DataModule, parents: dict[str, Path], device: torch.device) -> Any:
    """The LightningModule of the run's stage."""
    spec, classes = run.spec, data.num_classes
    updates = spec["epochs"] * data.batches_per_epoch
    if run.stage == "teacher":
        teacher = new_net(spec["teacher"]["net"], spec["teacher"]["init"], run.seed, "teacher", data)
        return ClassifierModule(teacher, "teacher", classes, spec["recipe"], updates)
    student = new_net(spec["student"]["net"], spec["init"]["student"], run.seed, "student", data)
    if run.stage == "backprop":
        return ClassifierModule(student, "student", classes, spec["recipe"], updates)
    teacher = load_teacher(parents["teacher"]).to(device)
    if run.stage == "hint":
        return hint_module(run, data, student, teacher, updates)
    if "hint" in parents:
        student.load_state_dict(load_student(parents["hint"]).state_dict(), strict=True)
    frozen = FrozenTeacher(teacher)
    return KDModule(
        student,
        frozen,
        teacher_answers(frozen, data, spec["answers"]),
        classes,
        spec["temperature"],
        spec["kd_loss"],
        spec["epochs"],
        spec["recipe"],
        updates,
    )


def hint_module(run: Run, data: DataModule, student: nn.Module, teacher: nn.Module, updates: int) -> HintModule:
    """Both networks cut at their layer, and the regressor that their two shapes ask for."""
    hint, shape = run.spec["hint"], data.input_shape
    hint_layer, hint_shape = resolve_layer(teacher, hint["teacher_layer"], shape, "teacher", "hint.teacher_layer")
    guided_layer, guided_shape = resolve_layer(student, hint["student_layer"], shape, "student", "hint.student_layer")
    frozen = FrozenTeacher(Cut(teacher, hint_layer))
    hints = teacher_answers(frozen, data, run.spec["answers"])
    probe = data.train_index[:PROBED]
    nonlinearity, pieces, why = choose_nonlinearity(
        hint["nonlinearity"], teacher, hint_layer, hints(probe, data.standardised(probe))
    )
    plan = plan_regressor(guided_shape, hint_shape, hint["regressor"], nonlinearity, pieces)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(run.seed, "regressor"))
        regressor = plan.build()
        build(run.spec["init"]["regressor"], regressor)
    facts = {
        "hint_layer": hint_layer,
        "guided_layer": guided_layer,
        "regressor": str(plan),
        "regressor_nonlinearity": plan.nonlinearity,
        "nonlinearity_because": why,
        "regressor_params": cost.parameters(regressor),
        "reduction": hint["reduction"],
    }
    return HintModule(
        student, guided_layer, frozen, hints, regressor, hint["reduction"], shape, run.spec["recipe"], updates, facts
    )


def choose_nonlinearity(choice: str, teacher: nn.Module, layer: str, hints: Tensor) -> tuple[str, int, str]:
    """The regressor's non-linearity, its maxout pieces, and why: the hint layer's own (paper section 2.2)."""
    declared = declared_nonlinearity(teacher, layer)
    pieces = declared[1] if declared else 2
    if choice != "auto":
        return choice, pieces, "as asked"
    if declared:
        return declared[0], pieces, "as the hint layer declares"
    if bool((hints >= 0).all()):
        return "relu", pieces, f"no negative output on {len(hints)} training images"
    return "linear", pieces, f"negative outputs on {len(hints)} training images"


def new_net(net: dict[str, Any], init: dict[str, Any], seed: int, role: str, data: DataModule) -> nn.Module:
    """A network with fresh weights that depend on (net, init, seed) alone, whatever was built before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, role))
        built = build_net(net, data.input_shape, data.num_classes)
        build(init, built)
    return built
