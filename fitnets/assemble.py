"""From a run's spec to its objects: data, networks with their initial weights, the stage."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from fitnets import curriculum
from fitnets.components import build, resolve
from fitnets.data.module import EVAL_BATCH, NO_AUGMENTATION, DataModule
from fitnets.load import build_net, load_student, load_teacher
from fitnets.models.layers import guided_modules, guided_parameters, resolve_layer
from fitnets.stages.answers import AnswerStore, teacher_answers
from fitnets.stages.base import GuidedHalf, StageInputs, drawn_with
from fitnets.stages.pairs import listed
from fitnets.store import NO_CURRICULUM, Run, folder_of

AS_USUAL = {"channels_last": "auto", "fused": "auto", "compile": False, "answers_at": "device", "answers_gib": 16.0}
DECIDES_ANSWERS = ("dataset", "preprocess", "split_seed", "augment", "precision")


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def epochs_of(run: Run, parents: dict[str, Path]) -> int:
    """Epochs to train: the run's own, or when it is retrained on all images what its first training found best."""
    return result_of(parents["searched"])["kept_epoch"] if "searched" in parents else run.spec["epochs"]


def make_data(run: Run, parents: dict[str, Path]) -> DataModule:
    """The run's data; a stage that goes on with a student goes on in the data order where the step before ended."""
    spec = run.spec
    difficulty = None
    if "score" in parents and run.trains == "student":
        from fitnets.curriculum.scores import difficulty_in

        difficulty = difficulty_in(parents["score"])
    data = DataModule(
        spec["dataset"] | run.sources,
        spec["split_seed"],
        spec["recipe"]["batch_size"] if "recipe" in spec else EVAL_BATCH,
        seed=run.seed,
        labels=spec.get("labels", "all" if run.trains == "score" else "none"),
        only_labelled=run.only_labelled,
        first_epoch=result_of(parents["student"])["epochs"] if run.continues else 0,
        preprocess=spec["preprocess"],
        augment=spec.get("augment", NO_AUGMENTATION),
        train_on=spec.get("train_on", "train"),
        sampler=curriculum.sampler(spec.get("curriculum", NO_CURRICULUM), difficulty),
        held_out=tuple(spec["held_out"]) if "held_out" in spec else None,
        updates_per_epoch=spec.get("updates_per_epoch"),
    )
    data.setup()
    data.updates = epochs_of(run, parents) * data.batches_per_epoch
    return data


def make_stage(
    run: Run, data: DataModule, parents: dict[str, Path], device: torch.device, options: Mapping[str, Any] = AS_USUAL
) -> Any:
    """The run's stage before its training. `options` is the trainer's config: how it is computed."""
    spec, teacher = run.spec, None
    net = laid_out(new_student(run, data) if run.trains == "student" else new_teacher(run, data), options)
    if run.continues:
        net.load_state_dict(load_student(parents["student"]).state_dict(), strict=True)
    answers = None
    if "teacher" in parents:
        teacher = laid_out(load_teacher(parents["teacher"]).to(device), options)
        decided_by = {key: spec[key] for key in DECIDES_ANSWERS} | {"train_on": data.train_on}
        store = AnswerStore(
            how=spec["answers"],
            folder=parents["teacher"].parent / ".answers",
            decided_by=decided_by | {"teacher": run.parents["teacher"].fingerprint},
            dtype=spec.get("answers_dtype", "float32"),
            at=options["answers_at"],
        )
        answers = partial(teacher_answers, teacher, data, store)
    inputs = StageInputs(
        spec=spec,
        role=run.trains,
        data=data,
        net=net,
        seed=run.seed,
        epochs=epochs_of(run, parents),
        recipe=spec["recipe"] | {"fused": options["fused"]},
        teacher=teacher,
        answers=answers,
        guided=guided_half(run, data, net),
        folders=parents,
    )
    return resolve(run.target)(inputs)


def trained_stage(options: Mapping[str, Any], device: torch.device, run: Run, folder: Path) -> Any:
    """The stage of a finished run with its trained weights; its teacher answers at every step."""
    online = replace(run, spec=run.spec | {"answers": "online"})  # nothing is cached for this
    folders = {role: folder_of(parent, folder.parent) for role, parent in run.parents.items()}
    data = make_data(online, folders)
    data.move_to(device, images=options["images_at"] == "device")
    stage = make_stage(online, data, folders, device)
    for name, net in stage.nets.items():
        net.load_state_dict(load_file(folder / f"{name}.safetensors"), strict=True)
    return stage


def new_student(run: Run, data: DataModule) -> nn.Module:
    return new_net(run.spec["student"]["net"], run.spec["init"]["student"], run.seed, "student", data)


def new_teacher(run: Run, data: DataModule) -> nn.Module:
    return new_net(run.spec["teacher"]["net"], run.spec["teacher"]["init"], run.seed, "teacher", data)


def new_net(net: dict[str, Any], init: dict[str, Any], seed: int, role: str, data: DataModule) -> nn.Module:
    """A network with fresh weights that depend on (net, init, seed) alone, whatever was built before."""
    with drawn_with(seed, role):
        built = build_net(net, data.input_shape, data.num_classes)
        build(init, built)
    return built


def laid_out(net: nn.Module, options: Mapping[str, Any]) -> nn.Module:
    """The network with its weights channels-last in memory where asked for, or where it says that this is faster."""
    wanted = options["channels_last"]
    if wanted is True or (wanted == "auto" and getattr(net, "channels_last", False)):
        return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def guided_half(run: Run, data: DataModule, net: nn.Module) -> GuidedHalf | None:
    """The half that a step before has guided; None where it learns as the rest does."""
    scale = run.spec.get("guided_lr_scale", 1.0)
    first = run.parents.get("student")
    while first and "hint" not in first.spec:
        first = first.parents.get("student")
    if scale == 1.0 or first is None:
        return None
    named = listed(first.spec["hint"]["student_layer"])
    layers = [resolve_layer(net, name, data.input_shape, "student", "hint.student_layer")[0] for name in named]
    frozen = guided_modules(net, layers, data.input_shape) if scale == 0 else []
    return GuidedHalf(scale, guided_parameters(net, layers, data.input_shape), frozen)


def compiled(stage: Any, mode: str | bool) -> Any:
    """The stage, what it runs at each step compiled in place: state_dicts keep their names."""
    if mode:
        for module in stage.compiled_modules():
            module.compile(mode=None if mode is True else mode)
    return stage
