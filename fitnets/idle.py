"""Words that change nothing of what a command trains: they are said, as a person who types one expects something.

Whether a key decides something is asked of the plan itself: with another value there, are the same runs named?
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fitnets.commands import Command, Config
from fitnets.config.wording import MISSING, value_at
from fitnets.plan import plan
from fitnets.store import Run, with_parents

ELSEWHERE = ("trainer", "logger", "runs_dir", "dry_run", "fresh", "hydra", "stage")  # these decide no result, by design
SHARED = ("hint", "hint_loss", "regressor")  # arms and sweeps share them
LABELS = ("name", "title", "path", "cache_dir")


def idle_keys(config: Config, commands: Sequence[Command], plans: Sequence[Sequence[Run]]) -> list[str]:
    """The typed keys that decide nothing of these plans."""
    typed = [word.partition("=")[0].lstrip("+").replace("/", ".") for word in config.words if word[:1] != "~"]
    one_of_each = {command.name: (command, runs) for command, runs in zip(commands, plans, strict=True)}
    return [key for key in dict.fromkeys(typed) if _asked(key, config) and _idle(key, config, one_of_each)]


def _asked(key: str, config: Config) -> bool:
    first, _, last = key.partition(".")[0], *key.rpartition(".")[1:]
    known = value_at(config.resolved, key) is not MISSING
    return known and first not in (*ELSEWHERE, *SHARED) and last not in LABELS


def _idle(key: str, config: Config, planned: Mapping[str, tuple[Command, Sequence[Run]]]) -> bool:
    stage, value = config["stage"], config.get(key)
    if "commands" in stage and key in ("seed", "seeds", "arms", "curriculum"):  # what a list has of its own
        return key == "seed" and "min_seeds" in stage
    if key in ("seeds", "arms"):
        return True
    if key == "patience" and value:
        runs = with_parents(run for _, runs in planned.values() for run in runs)
        return not any(value < run.spec["epochs"] for run in runs if "patience" in run.spec)
    plans = planned.values()
    if any(_stands_in(key, config, runs) for _, runs in plans):
        return False
    return not any(_decides(key, *each) for each in plans)


def _stands_in(key: str, config: Config, runs: Sequence[Run]) -> bool:
    """Whether a run's spec has that name with that value, as most have: planning anew takes 0.1 s a key."""
    of_teacher = "teacher" in key.split(".")
    specs = [run.spec for run in with_parents(runs) if (run.trains == "teacher") == of_teacher]
    there = {(at.rpartition(".")[2], repr(value)) for spec in specs for at, value in _values("", spec).items()}
    asked = _values(key, value_at(config.resolved, key))
    return any((name, repr(value)) in there for at, value in asked.items() for name in at.split("."))


def _decides(key: str, command: Command, runs: Sequence[Run]) -> bool:
    """Whether the command would name other runs with another value there, or other values below it."""
    below = _values(key, value_at(command.config.resolved, key))
    others = {each: _another(value) for each, value in below.items()}
    try:
        planned = plan(command.config.changed(others), command.arm)
    except Exception:  # what cannot be planned otherwise decides something
        return True
    return not below or {run.fingerprint for run in planned} != {run.fingerprint for run in runs}


def _values(key: str, value: Any) -> dict[str, Any]:
    """The values at a key and below it that are more than a label, by dotted key."""
    if not isinstance(value, Mapping):
        return {key: value}
    parts = {name: part for name, part in value.items() if name not in LABELS}
    return {each: at for name, part in parts.items() for each, at in _values(f"{key}.{name}", part).items()}


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "_"
    return [*value, 1] if isinstance(value, list) else 1
