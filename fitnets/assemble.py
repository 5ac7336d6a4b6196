"""From a run's spec to its objects: data, networks with their initial weights, the stage's LightningModule."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fitnets import cost
from fitnets.components import build
from fitnets.data.module import EVAL_BATCH, NO_AUGMENTATION, NO_CURRICULUM, DataModule
from fitnets.layers import Cut, declared_nonlinearity, guided_parameters, plan_regressor, resolve_layer
from fitnets.load import build_net, load_student, load_teacher
from fitnets.runs import Run
from fitnets.seeds import derive
from fitnets.stages.answers import Answers, Store, cached, online
from fitnets.stages.classify import ClassifierModule
from fitnets.stages.hint import HintModule
from fitnets.stages.joint import JointBackprop, JointKD
from fitnets.stages.kd import KDModule
from fitnets.stages.teacher import FrozenTeacher

AS_USUAL = {"channels_last": "auto", "fused": "auto", "compile": False, "answers_at": "device", "answers_gib": 16.0}
COMPILED = ("net", "student", "guided", "regressor", "teacher")  # of a stage's attributes
SCORES = "scores.safetensors"  # of a score run: difficulty (N,) by sample id, NaN where there is none
PROBED = 512  # training images that decide whether a hint layer is ever negative


def epochs_of(run: Run, parents: dict[str, Path]) -> int:
    """Epochs to train: the run's own, or when it is retrained on all images what its first training found best."""
    return result_of(parents["found"])["kept_epoch"] if "found" in parents else run.spec["epochs"]


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def make_data(run: Run, parents: dict[str, Path]) -> DataModule:
    """The run's data; a KD stage goes on in the data order where its hint stage ended."""
    epochs, spec = epochs_of(run, parents), run.spec
    data = DataModule(
        run.spec["dataset"] | run.where,
        run.spec["split_seed"],
        run.spec["recipe"]["batch_size"] if "recipe" in run.spec else EVAL_BATCH,
        seed=run.seed,
        labels=run.spec.get("labels", "all"),
        only_labelled=run.only_labelled,
        first_epoch=result_of(parents["hint"])["epochs"] if "hint" in parents else 0,
        preprocess=run.spec["preprocess"],
        augment=spec.get("augment", NO_AUGMENTATION),
        train_on=spec.get("train_on", "train"),
        curriculum=spec.get("curriculum", NO_CURRICULUM),
        difficulty=load_file(parents["score"] / SCORES)["difficulty"] if "score" in parents else None,
        held_out=tuple(spec["held_out"]) if "held_out" in spec else None,
        updates_per_epoch=spec.get("updates_per_epoch"),
    )
    data.setup()
    data.updates = epochs * data.batches_per_epoch
    return data


def make_module(
    run: Run, data: DataModule, parents: dict[str, Path], device: torch.device, options: Mapping[str, Any] = AS_USUAL
) -> Any:
    """The LightningModule of the run's stage. `options` is the trainer's config: how it is computed."""
    spec, classes, epochs = run.spec, data.num_classes, epochs_of(run, parents)
    updates, recipe = data.updates, spec["recipe"] | {"fused": options["fused"]}
    if run.stage == "teacher":
        teacher = new_net(spec["teacher"]["net"], spec["teacher"]["init"], run.seed, "teacher", data)
        return ClassifierModule(laid_out(teacher, options), "teacher", classes, recipe, updates)
    student = laid_out(new_net(spec["student"]["net"], spec["init"]["student"], run.seed, "student", data), options)
    if "hint" in parents:
        student.load_state_dict(load_student(parents["hint"]).state_dict(), strict=True)
    if run.stage == "label_hint":
        layer, head = label_head(run, data, student, spec["guided_layer"])
        trained = guided_parameters(student, layer, data.input_shape)
        return ClassifierModule(Cut(student, layer), "student", classes, recipe, updates, head, trained)
    joint = run.stage == "joint"
    if run.stage == "backprop" or spec.get("task") == "backprop":
        kind = JointBackprop if joint else ClassifierModule
        module = kind(student, "student", classes, recipe, updates)
        return with_side(module, run, data, student, None, None) if joint else module
    teacher = laid_out(load_teacher(parents["teacher"]).to(device), options)
    store = Store(parents["teacher"].parent / ".answers", options["answers_at"], options["answers_gib"])
    if run.stage == "hint":
        layer, regressor, hints, frozen, facts = hint_parts(run, data, student, teacher, store)
        return HintModule(
            *(student, layer, frozen, hints, regressor, spec["hint"]["reduction"], data.input_shape),
            *(recipe, updates, facts),
        )
    frozen = FrozenTeacher(teacher)
    kd = (JointKD if joint else KDModule)(
        *(student, frozen, answers_of(run, data, frozen, "", store), classes, spec["temperature"]),
        *(spec["kd_loss"], epochs, recipe, updates, scaled_guided(run, data, student)),
    )
    return with_side(kd, run, data, student, teacher, store) if joint else kd


def compiled(module: Any, mode: str | bool) -> Any:
    """The module, what it runs at each step compiled in place: state_dicts keep their names."""
    if mode:
        parts = {id(part): part for name in COMPILED if (part := getattr(module, name, None)) is not None}
        for part in parts.values():
            part.compile(mode=None if mode is True else mode)
    return module


def laid_out(net: nn.Module, options: Mapping[str, Any]) -> nn.Module:
    """The network with its weights channels-last in memory where asked for, or where it says that this is faster."""
    wanted = options["channels_last"]
    if wanted is True or (wanted == "auto" and getattr(net, "channels_last", False)):
        return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def answers_of(run: Run, data: DataModule, teacher: FrozenTeacher, layer: str, store: Store) -> Answers:
    """The answers of the teacher, cut at `layer` ("": whole), as the run's spec has them: cached or online."""
    if run.spec["answers"] == "online":
        return online(teacher)
    keys = ("dataset", "preprocess", "split_seed", "augment", "precision")
    decided_by = {key: run.spec[key] for key in keys} | {"train_on": data.train_on}
    decided_by |= {"teacher": run.parents["teacher"].fingerprint, "layer": layer}
    return cached(teacher, data, run.spec["answers_dtype"], decided_by, store)


def with_side(
    module: Any, run: Run, data: DataModule, student: nn.Module, teacher: nn.Module | None, store: Store | None
) -> Any:
    """A joint module with its second loss at the guided layer: labels, or the teacher's hint."""
    if run.spec["side"] == "label" or teacher is None or store is None:
        layer, head = label_head(run, data, student, run.spec["hint"]["student_layer"])
        return module.side_by(layer, head, None, "", {"guided_layer": layer})
    layer, regressor, hints, _, facts = hint_parts(run, data, student, teacher, store)
    return module.side_by(layer, regressor, hints, run.spec["hint"]["reduction"], facts)


def scaled_guided(run: Run, data: DataModule, student: nn.Module) -> dict[float, list[nn.Parameter]] | None:
    """The guided half's parameters by the factor on their learning rate in stage 2; None where that is 1."""
    scale = run.spec.get("guided_lr_scale", 1.0)
    if scale == 1.0:
        return None
    first = run.parents["hint"].spec
    named = first["guided_layer"] if "guided_layer" in first else first["hint"]["student_layer"]
    layer, _ = resolve_layer(student, named, data.input_shape, "student", "hint.student_layer")
    return {scale: guided_parameters(student, layer, data.input_shape)}


def label_head(run: Run, data: DataModule, student: nn.Module, named: str) -> tuple[str, nn.Module]:
    """The guided layer's name, and a linear classifier on its flattened output (the paper does not say which)."""
    layer, shape = resolve_layer(student, named, data.input_shape, "student", "hint.student_layer")
    with drawn_with(run.seed, "head"):
        head = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), data.num_classes))
        build(run.spec["init"]["regressor"], head)
    return layer, head


def hint_parts(
    run: Run, data: DataModule, student: nn.Module, teacher: nn.Module, store: Store
) -> tuple[str, nn.Module, Answers, FrozenTeacher, dict[str, Any]]:
    """The guided layer, the regressor that the two shapes ask for, the hints, the cut teacher, and what to report."""
    hint, shape = run.spec["hint"], data.input_shape
    hint_layer, hint_shape = resolve_layer(teacher, hint["teacher_layer"], shape, "teacher", "hint.teacher_layer")
    guided_layer, guided_shape = resolve_layer(student, hint["student_layer"], shape, "student", "hint.student_layer")
    frozen = FrozenTeacher(Cut(teacher, hint_layer))
    hints = answers_of(run, data, frozen, hint_layer, store)
    probe = frozen(data.preprocessed(data.train_index[:PROBED]))
    nonlinearity, pieces, why = choose_nonlinearity(hint["nonlinearity"], teacher, hint_layer, probe)
    plan = plan_regressor(guided_shape, hint_shape, hint["regressor"], nonlinearity, pieces)
    with drawn_with(run.seed, "regressor"):
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
    return guided_layer, regressor, hints, frozen, facts


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


@contextmanager
def drawn_with(seed: int, purpose: str) -> Iterator[None]:
    """Weights made inside depend on (seed, purpose) alone; torch's random state outside is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, purpose))
        yield


def new_net(net: dict[str, Any], init: dict[str, Any], seed: int, role: str, data: DataModule) -> nn.Module:
    """A network with fresh weights that depend on (net, init, seed) alone, whatever was built before."""
    with drawn_with(seed, role):
        built = build_net(net, data.input_shape, data.num_classes)
        build(init, built)
    return built
