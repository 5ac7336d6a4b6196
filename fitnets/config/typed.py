"""What is wrong with words that Hydra takes: it would merge two files of a group, or give a file another name."""

import re
from collections.abc import Iterable, Iterator

from fitnets.config.wording import OLD_KEYS, choices_of

NO_NAMES = ("null", "true", "false", "nan", "inf")  # Hydra reads something else
LISTED = ("logger", "experiment")  # groups of which several files go together


def problems_of(words: Iterable[str]) -> Iterator[str]:
    """`words` as typed, less the flags."""
    for word in words:
        key, _, value = word.lstrip("+~").partition("=")
        group, _, name = key.rpartition(".")
        if len(key) > 100:  # too long for Hydra, which looks for a file of that name
            yield f"{key[:30]}... is no key: python run.py --cfg job prints the known ones"
            continue
        if "\0" in word:  # from Python: no shell can type it
            yield f"{word!r} holds a NUL, which no value may: leave it out"
            continue
        files = choices_of(key) if key else []
        if key == "recipe_on":
            yield "recipe_on follows from recipe and dataset: leave it out"
        elif files and key in LISTED and value[:1] in ("[", "{") and not _names(value):
            yield f"{key} is {value}: type {key}= one or, as a list [a,b], some of: {' | '.join(files)}"
        elif files and key not in LISTED and value[:1] in ("[", "{"):
            several = f"(with -m, several: {key}=a,b)"
            yield f"{key} is {value}, where one is taken: type {key}= one of: {' | '.join(files)} {several}"
        elif files and value.endswith(".yaml"):
            yield f"{key} is {value!r}: type {key}={value.removesuffix('.yaml')}"
        elif name == "name" and key not in OLD_KEYS and value in choices_of(group.replace(".", "/")):
            yield f"{word} would only give the chosen {group} another name: type {group.replace('.', '/')}={value}"


def _names(value: str) -> bool:
    """Whether it is written as a list of names."""
    names = [name.strip(" \t'\"") for name in value[1:-1].split(",")] if value[1:-1].strip() else []
    named = [re.fullmatch(r"[A-Za-z_][\w/-]*", name) and name.lower() not in NO_NAMES for name in names]
    return value[0] == "[" and value[-1] == "]" and all(named)
