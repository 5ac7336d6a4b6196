"""Words of the messages: what was given, the nearest known word, what to type instead."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

CONF = Path(__file__).parents[2] / "conf"
MISSING = object()
TO_BE_TYPED = "???"  # OmegaConf's
TO_TYPE = {"dataset.path": "FOLDER, or owner/name (Hugging Face)", "curriculum.score.path": "FILE"}
OLD_KEYS = {  # as a key was typed before -> what to type now
    "kd_loss.name": "kd_loss={}",
    "kd_loss.alpha": "kd_loss=hinton kd_loss.alpha={}",
    "hint.reduction": "hint_loss.reduction={}",
    "hint.regressor": "regressor={}",
}


class ConfigError(Exception):
    """Every problem found in a config, as one message."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        lines = [f"  {number}. {problem}" for number, problem in enumerate(problems, 1)]
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"The config has {count}; nothing was trained.", *lines]))


def value_at(config: Any, key: str) -> Any:
    """What stands at a dotted key, the whole at ""; MISSING where nothing does."""
    for name in key.split(".") if key else ():
        if not isinstance(config, Mapping) or name not in config:
            return MISSING
        config = config[name]
    return config


def dotted_keys(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key of a nested config, groups too."""
    for name, value in config.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from dotted_keys(value, f"{prefix}{name}.")


def choices_of(group: str) -> list[str]:
    """The files of a group of conf/, below its folders too where those are no groups of their own."""
    names = []
    for file in sorted((CONF / group).rglob("*.yaml")):
        if file.parent == CONF / group or file.read_text(encoding="utf-8").startswith("# @package _global_"):
            names.append(str(file.relative_to(CONF / group).with_suffix("")))
    return names


def did_you_mean(word: str, known: Iterable[str], most: int = 3) -> str:
    """The words that were meant, the likeliest first: those that begin like it, or whose last name looks like its."""
    last_names = {each: each.rpartition(".")[2] for each in known if not f"{each}.".startswith(f"{word}.")}
    word = word if word in last_names else word.lower()  # KD, Temperature
    begun = [each for each in last_names if word and each.startswith(word)]
    alike = [each for each in last_names if get_close_matches(word.rpartition(".")[2], [last_names[each]])]
    cutoff = 0.6 if "." in word else 0  # 0: it may be typed without its group
    near = list(dict.fromkeys(begun + get_close_matches(word, alike, cutoff=cutoff)))[:most]
    return f"; did you mean {' or '.join(near)}?" if near else ";"


def not_given(key: str) -> str:
    return f"{key} is not given yet, and has no default: type {key}={TO_TYPE.get(key, 'VALUE')}"


def unknown_key(key: str, value: Any, known: Iterable[str], listed: str) -> str:
    if key in OLD_KEYS:
        return f"{key} is no key here: type {OLD_KEYS[key].format(value)}"
    return f"{key} is no key{did_you_mean(key, known, most=1)} {listed}"


def has(group: str, names: Iterable[str], of: str = "job") -> str:
    return f"{group} has: {', '.join(names)}" if group else f"python run.py --cfg {of} prints the known ones"


def unknown_choice(key: str, value: Any, choices: Iterable[str]) -> str:
    return f"{key} is {value!r}{did_you_mean(str(value), choices)} type {key}= one of: {' | '.join(choices)}"
