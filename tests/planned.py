"""The trained stages that tests of plans and fingerprints watch, by what they call them."""

import functools
from dataclasses import replace

from fitnets.plan import plan
from fitnets.store import Run
from tests.conftest import composed

STAGES = {  # -> what is typed, and which of its runs
    "teacher": ("teacher", 0),
    "hint": ("fitnet", 0),
    "kd": ("fitnet", 1),
    "kd alone": ("kd", 0),
    "backprop": ("backprop", 0),
    "label hint": ("label_hint", 0),
    "hint+kd": ("joint_hint_kd", 0),
    "hint+backprop": ("joint_hint_backprop", 0),
    "label+kd": ("joint_label_kd", 0),
    "label+backprop": ("joint_label_backprop", 0),
}
ALL = set(STAGES)
STUDENTS = ALL - {"teacher"}
BY_HINT = {"hint", "kd", "hint+kd", "hint+backprop"}  # the teacher's layers have a say
BY_KD = {"kd", "kd alone", "hint+kd", "label+kd"}
BY_TEACHER = {"teacher"} | BY_HINT | BY_KD
BY_GUIDED_LAYER = BY_HINT | {"label hint", "label+kd", "label+backprop"}


@functools.cache
def stages(*overrides: str) -> dict[str, Run]:
    config = composed(*overrides)
    return {name: plan(config.at_stage(word))[which] for name, (word, which) in STAGES.items()}


def moved(before: dict[str, Run], after: dict[str, Run]) -> set[str]:
    """The stages that would be trained anew."""
    return {name for name in before if before[name].fingerprint != after[name].fingerprint}


def anew(run: Run) -> Run:
    """The same run, whose fingerprint has not been asked for yet."""
    return replace(run, parents={role: anew(parent) for role, parent in run.parents.items()})
