"""Errors of Hydra, OmegaConf and YAML, a line each with the nearest words and the choices: no traceback."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from fitnets.config import wording
from fitnets.config.typed import problems_of
from fitnets.config.wording import CONF, MISSING, ConfigError, choices_of, unknown_choice, value_at

ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError)
NO_NAME = "Config group override "  # student=4, ~student=4: a ValueError, and no HydraException
TWICE = ("Multiple values for", "force-add of config groups")
SWEPT = ("Ambiguous value for argument", "Sweep parameters")


@contextmanager
def one_line_errors(words: Sequence[str]) -> Iterator[None]:
    """Inside, what Hydra, OmegaConf and YAML find wrong with a command is a ConfigError. For run.py, round its main."""
    if problems := list(problems_of(words)):  # some would be a TypeError of Hydra's
        raise ConfigError(problems)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands its errors on, where else it prints them and exits
    try:
        yield
    except ERRORS as error:
        a_mistake = type(error) is ValueError and NO_NAME not in str(error)
        if a_mistake or isinstance(error, InstantiationException):  # in somebody's code: it keeps its traceback
            raise
        raise hydra_problem(error, words) from error


def hydra_problem(error: Exception, words: Sequence[str]) -> ConfigError:
    """What Hydra, OmegaConf or YAML found wrong with a command of these words (flags too), as ours."""
    arguments = get_args_parser().parse_known_args(list(words))[0]
    config = composed([], arguments.config_dir)
    right: list[str] = []
    errors: dict[str, Exception] = {}
    depth = {word: len(re.split("[./]", word.partition("=")[0])) for word in arguments.overrides}
    # Hydra stops at the first wrong word, so each is tried with the right ones; files first, which decide on keys.
    for word in sorted(depth, key=depth.__getitem__):
        try:
            config = composed([*right, word], arguments.config_dir)
            right.append(word)
        except ERRORS as wrong:
            if not str(wrong).startswith(SWEPT):
                errors[word] = wrong
    taken = [word for word in depth if word.startswith("~") and word not in errors]
    if taken and not errors:
        return ConfigError([f"{', '.join(taken)} takes away what other keys refer to: leave it out"])
    if not errors:  # it is of no word alone: a sweep's, a reference's, a file's
        errors[""] = error
    return ConfigError([one_line(each, word, config) for word, each in errors.items()])


def composed(overrides: list[str], config_dir: str | None) -> dict[str, Any]:
    """The config of these words, its references not filled in."""
    place = Path(config_dir or "").absolute()
    own = [f"hydra.searchpath=[file://{place}]"] if config_dir and place.is_dir() else []
    runs = GlobalHydra.instance().is_initialized()  # inside a main, which knows its --config-dir
    with nullcontext() if runs else initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("config", [*own, *overrides]))  # type: ignore[return-value]


def one_line(error: BaseException, word: str, config: dict[str, Any]) -> str:
    """`word` is what an error comes from, "" where that is not known."""
    key, _, value = word.lstrip("+~").partition("=")
    message = str(error)
    quoted = re.findall(r"'(.+?)'", message)
    name = quoted[0] if quoted else ""
    if isinstance(error, OverrideParseException) or (word and (not key or "@" in key)):
        return unreadable(word or getattr(error, "override", ""), key, value)
    if word.startswith("~") and (choices_of(key) or value_at(config, key) is not MISSING):
        return f"{word} takes away what other keys refer to: leave it out"
    if word.startswith("+") and message.startswith(TWICE):
        return f"{key} is there already: type {key}={value or 'NAME'}, without +"
    if unloaded := re.search(r"Could not load '(.+)/(.+?)'", message):  # one of a list
        return unknown_choice(unloaded[1], unloaded[2], choices_of(unloaded[1]))
    if isinstance(error, MissingConfigException) and error.options is not None:
        file = str(error.missing_cfg_file)
        group = key if file.startswith(f"{key}/") else file.rpartition("/")[0]
        choices = dict.fromkeys([*error.options, *choices_of(group)])
        return unknown_choice(group, file.removeprefix(f"{group}/"), choices)
    if NO_NAME in message and word:
        return unknown_choice(key, value, choices_of(key))
    if isinstance(error, UnicodeDecodeError):
        return f"{word or 'the config'} reads a file that is not in UTF-8 ({error.reason}): save it as UTF-8"
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        return f"{error.problem_mark.name}, line {error.problem_mark.line + 1}, is no YAML: {error.problem}"
    if message.startswith(("Could not override '", "Could not delete '", "Could not delete from config. '")):
        return no_key(name, value or "VALUE", config)
    if message.startswith("Could not append"):
        return f"{name} is there already: type {name}=VALUE, without +"
    if message.startswith(SWEPT):
        key, _, value = name.partition("=")
        a_list = "" if "(" in value else f", or type '{key}=[{value}]' for a list"
        return f"{name} has several values: add -m for a sweep over them{a_list}"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        if message.startswith("Interpolation key"):
            near = wording.did_you_mean(name, wording.dotted_keys(config), most=1)
            return f"{error.full_key} refers to ${{{name}}}, which is no key{near}".rstrip(";")
        if message.startswith("Cannot merge"):
            parts = "a list" if "with ListConfig" in message else "keys of its own"
            return f"{error.full_key} is {value}, in the place of {parts}: type {error.full_key}=VALUE as it was"
        if not_given := re.search("Missing mandatory value: (.+)", message):
            return wording.not_given(not_given[1])
        return f"{error.full_key} cannot be filled in: {message.splitlines()[0]}"
    if isinstance(error.__cause__, OmegaConfBaseException):
        return one_line(error.__cause__, word, config)
    if message.startswith("Additional config directory"):
        return f"--config-dir is {name}, which is no folder: type --config-dir FOLDER"
    return " ".join(message.partition("Config search path")[0].split())


def unreadable(word: str, key: str, value: str) -> str:
    """A word that Hydra's grammar does not take. It takes accents, spaces, = and brackets only in quotes of its own."""
    simple = re.fullmatch(r"[\w./]+", key, re.ASCII) and value and not re.search(r"""^[\[{$]|["'\]}]""", value)
    how = f"""type '{key}="{value}"'""" if simple else "type key=value, with lists in quotes: 'key=[a,b]'"
    return f"{word!r} is no key=value that can be read: {how}"


def no_key(key: str, value: str, config: dict[str, Any]) -> str:
    """`temprature=3`, or a part of a group that is not chosen."""
    first, *rest = re.split(r"[./]", key)
    if (
        rest
        and choices_of(first)
        and (CONF / first / rest[0]).is_dir()
        and value_at(config, f"{first}.{rest[0]}") is MISSING
    ):
        choices = " | ".join(choices_of(first))
        return f"{key} is a part of a {first}, and this one has none: type {first}= too, one of: {choices}"
    group = key.rpartition(".")[0]
    while not isinstance(value_at(config, group), dict):
        group = group.rpartition(".")[0]
    known = [*wording.dotted_keys(config), *(folder.name for folder in CONF.iterdir())]
    of = "hydra" if first == "hydra" else "job"
    return wording.unknown_key(key, value, known, wording.has(group, value_at(config, group), of))
