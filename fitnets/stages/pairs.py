"""Which layers of teacher and student a stage compares, and how a hint layer ends."""

from typing import Any

import torch

from fitnets.losses.objective import LayerPair
from fitnets.models.layers import Cut, LayerError, declared_nonlinearity, resolve_layer
from fitnets.stages.base import StageInputs
from fitnets.stages.teacher import FrozenTeacher

PROBED = 512  # training images that decide whether a hint layer is ever negative


def layer_pairs(inputs: StageInputs) -> list[LayerPair]:
    """The pairs of layers that the spec's `hint` names, with their shapes. Raises LayerError, for each side one."""
    assert inputs.teacher is not None
    found: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    problems: list[LayerError] = []
    for role, net in (("teacher", inputs.teacher), ("student", inputs.net)):
        key = f"{role}_layer"
        try:
            named = listed(inputs.spec["hint"][key])
            found[role] = [resolve_layer(net, name, inputs.input_shape, role, f"hint.{key}") for name in named]
        except LayerError as error:
            problems.append(error)
    if problems:
        raise ExceptionGroup("layers", problems)
    if len(found["teacher"]) != len(found["student"]):
        counts = {f"hint.{role}_layer": len(layers) for role, layers in found.items()}
        raise LayerError(f"each hint layer needs its guided layer, these are {counts} layers: type as many")
    pairs = []
    for theirs, ours in zip(found["teacher"], found["student"], strict=True):
        ending = _Ending(inputs, theirs[0])
        pairs.append(LayerPair(theirs[0], ours[0], teacher_shape=theirs[1], student_shape=ours[1], ending=ending))
    return pairs


def guided_layer(inputs: StageInputs) -> tuple[str, tuple[int, ...]]:
    """The one student's layer that the spec's `hint` names, with its shape. Raises LayerError."""
    named = listed(inputs.spec["hint"]["student_layer"])
    if len(named) != 1:
        raise LayerError(f"this stage guides one layer, hint.student_layer is {named}: type hint=middle")
    return resolve_layer(inputs.net, named[0], inputs.input_shape, "student", "hint.student_layer")


def listed(layers: Any) -> list[str]:
    """One layer's name or several, as a list."""
    return [str(layer) for layer in layers] if isinstance(layers, list | tuple) else [str(layers)]


class _Ending:
    """The non-linearity that a hint layer ends in: what it declares, or what a probe of training images shows."""

    def __init__(self, inputs: StageInputs, layer: str):
        self.inputs = inputs
        self.layer = layer

    def __call__(self) -> tuple[str, int, str]:
        teacher, data = self.inputs.teacher, self.inputs.data
        assert teacher is not None
        if declared := declared_nonlinearity(teacher, self.layer):
            return declared[0], declared[1], "as the hint layer declares"
        if next(teacher.parameters(), torch.empty(0)).is_meta:
            return "linear", 2, "not probed"
        hints = FrozenTeacher(Cut(teacher, self.layer))(data.preprocessed(data.train_index[:PROBED]))
        if bool((hints >= 0).all()):
            return "relu", 2, f"no negative output on {len(hints)} training images"
        return "linear", 2, f"negative outputs on {len(hints)} training images"
