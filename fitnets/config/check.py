"""All problems of a resolved config: first what each key may hold, by schema.py, then what keys must be together."""

from collections.abc import Iterable, Mapping
from inspect import signature
from math import isfinite
from typing import Any

from pydantic import ValidationError

from fitnets.config import wording
from fitnets.config.rules import RULES, named
from fitnets.config.schema import ANY_KEY, ANYTHING, CONFIG, OPTIONS, Group, Target, Value
from fitnets.config.wording import MISSING, choices_of, dotted_keys, has, unknown_key, value_at
from fitnets.signatures import parameters_of, problem_with

COPIES = {  # keys that refer to another one, where their problem is told
    "augment.flip": "recipe_augment.flip",
    "augment.crop": "recipe_augment.crop",
    "kd_loss.temperature": "temperature",
    "kd_loss.weights.soft": "lambda_schedule",
    "hint_loss.regressor": "regressor",
    "regressor.nonlinearity": "hint.nonlinearity",
    "stage.epochs": "epochs.hint",
}


def check(config: Group, arms: Iterable[str] | None = None) -> list[str]:
    """Every problem, one line each. `arms` are the files of conf/stage and conf/arm; None: they are not known."""
    problems = problems_at("", CONFIG, config, config)
    for key in dotted_keys(config):
        if value_at(config, key) == wording.TO_BE_TYPED:
            problems[key] = wording.not_given(key)
    broken = {key.partition(".")[0] for key in problems}
    lines = list(problems.values())
    for rule in RULES:
        keys = signature(rule).parameters
        if broken.isdisjoint(keys):
            lines += rule(**{key: config.get(key) for key in keys})
    if "stage" not in broken:
        lines += named(config, None if arms is None else sorted(arms))
    return lines


def problems_at(key: str, form: Any, given: Any, config: Group) -> dict[str, str]:
    """What is wrong at a key of the config and below it, by key."""
    if key in COPIES and repr(given) == repr(value_at(config, COPIES[key])):  # as written: no nan is another
        return {}
    if callable(form):
        form = form(given)
    if isinstance(form, tuple):
        form = form[isinstance(given, Mapping)]
    state = f"{key} is missing" if given is MISSING else f"{key} is {given!r}"
    is_number = isinstance(given, float) and isfinite(given) and given != 0
    if is_number and not 1.2e-38 < abs(given) < 3.4e38 and form != ANYTHING:
        state += ", of a size that float32 cannot hold"
        return {key: f"{state}; {form.message.format(key, form.example)}" if isinstance(form, Value) else state}
    if isinstance(form, Value):
        try:
            form.adapter.validate_python(given)
        except ValidationError:
            return {key: f"{state}; {form.message.format(key, form.example)}"}
        return {}
    is_component = isinstance(form.get("_target_"), Target)
    names = [name.rstrip("?") for name in form]
    if not isinstance(given, Mapping):
        return {key: f"{state}; {how_to_set(key, [*names, 'OPTION'] if is_component else names)}"}
    if ANY_KEY in form:
        form = dict.fromkeys(given, form[ANY_KEY])
    listed, problems = has(key, names), dict[str, str]()
    if is_component:
        form, listed, problems = component(key, form, given)
    prefix, forms = f"{key}." if key else "", {name.rstrip("?"): each for name, each in form.items()}
    for name in given:
        if listed and name not in forms:
            known = [*(prefix + each for each in forms), *dotted_keys(config)]
            problems[prefix + name] = unknown_key(prefix + name, given[name], known, listed)
    for name in forms:
        if name in given or name in form:  # without its ? it must be given
            problems |= problems_at(prefix + name, forms[name], given.get(name, MISSING), config)
    return problems


def how_to_set(key: str, names: list[str]) -> str:
    path = key.replace(".", "/")
    if files := choices_of(path):
        return f"it is a group of its own: type {path}=NAME with one of: {', '.join(files)}"
    return f"it has parts, set one of them: {', '.join(f'{key}.{name}' for name in names)}"


def component(key: str, group: Group, given: Group) -> tuple[Group, str, dict[str, str]]:
    """What may stand in a component; which options it takes, "" where the source does not say; and what it lacks."""
    target, role, form = str(given.get("_target_")), group["_target_"], {**group, "_target_": ANYTHING}
    if problem := problem_with(target):
        moved = [home + target.rpartition(".")[2] for home in OPTIONS]
        found = [each for each in moved if target.startswith("fitnets.") and not problem_with(each)]
        problem = f"it is now {found[0]}" if found else problem
        return form, "", {f"{key}._target_": f"{key}._target_={target}: {problem}"}
    kinds: dict[str, Any] = {}
    for beginning, options in OPTIONS.items():
        if target.startswith(beginning):
            kinds |= options
    parameters = parameters_of(target, role.handed)
    handed = [name for name in role.handed_by_name if name in given]
    if handed and parameters is None:
        return form, "", {f"{key}.{name}": f"{key}.{name} comes from the data: leave it out" for name in handed}
    if parameters is None:
        return form | {f"{name}?": kinds[name] for name in kinds}, "", {}
    takes = [name for name in parameters if name not in role.handed_by_name]
    listed = f"{target} takes: {', '.join(takes) or 'no options'}"
    nulls = [name for name in given if given[name] is None and role.drops_null]
    form = dict.fromkeys(nulls, ANYTHING) | {f"{name}?": kinds.get(name, ANYTHING) for name in takes} | form
    missing = [name for name in takes if parameters[name] and name not in given]
    lacks = {f"{key}.{name}": f"{key}.{name} is missing; {listed}: type +{key}.{name}=VALUE" for name in missing}
    return form, listed, lacks
