"""What is wrong with words that Hydra takes: it would merge two files of a group, or give a file another name."""

from collections.abc import Iterable, Iterator

from fitnets.config.wording import CONF, choices_of

LISTED = ("logger", "experiment")  # groups of which several files go together


def problems_of(words: Iterable[str]) -> Iterator[str]:
    """`words` as typed, less the flags."""
    for word in words:
        key, _, value = word.lstrip("+~").partition("=")
        group, _, name = key.rpartition(".")
        if key == "recipe_on":
            yield "recipe_on follows from recipe and dataset: leave it out"
        elif (CONF / key).is_dir() and key and value[:1] in ("[", "{") and key not in LISTED:
            one_of = " | ".join(choices_of(key))
            yield f"{key} is {value}, where one is taken: type {key}= one of: {one_of} (with -m, several: {key}=a,b)"
        elif (CONF / key).is_dir() and value.endswith(".yaml"):
            yield f"{key} is {value!r}: type {key}={value.removesuffix('.yaml')}"
        elif name == "name" and value in choices_of(group.replace(".", "/")):
            yield f"{word} would only give the chosen {group} another name: type {group.replace('.', '/')}={value}"
