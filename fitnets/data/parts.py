"""Which part of a data set is which: train, validation and test by the names that people give them."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from fitnets.data.identity import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
NAMES = {
    TRAIN: ("train", "training", "trn"),
    VALIDATION: ("validation", "val", "valid", "dev"),
    TEST: ("test", "testing", "tst"),
}
T = TypeVar("T")


def part_of(name: str) -> str | None:
    """train, validation or test, whatever the case; None for another name."""
    return next((part for part, names in NAMES.items() if name.lower() in names), None)


def part_in(name: str) -> str | None:
    """The same for a name that has one such word among others: training_set, seg_train, train2017."""
    found = {part for word in re.findall("[a-z]+", name.lower()) if (part := part_of(word))}
    return found.pop() if len(found) == 1 else None


def parts_among(names: Iterable[str]) -> dict[str, str]:
    """Which of the names mean a part: those that are its word or, where none is, those that have it among others."""
    names = list(names)
    exact = {name: part for name in names if (part := part_of(name))}
    more = {name: part for name in names if (part := part_in(name)) and part not in exact.values()}
    return exact | more


def chosen(given: Mapping[str, T], test_split: str | None, where: str) -> tuple[dict[str, T], list[str]]:
    """The parts to use by what they are used for, of those `given` by name; and what to say of it.

    `test_split` names the part that is the test part; none: no part, so that it is drawn from train. Raises DataError
    where there is no train part, two for one use, or none of that name.
    """
    found: dict[str, str] = {}
    meanings = parts_among(given)
    for name, part in meanings.items():
        if part in found:
            raise DataError(f"{where} has {found[part]} and {name}, which both mean {part}: take one of them away")
        found[part] = name
    listed = ", ".join(given) or "nothing"
    if TRAIN not in found:
        raise DataError(f"{where} has no train part; it has: {listed}. Name the part to train on train")
    if test_split is not None:
        named = [name for name in given if name == test_split]
        found_test = next(
            iter([*named, *(name for name in found.values() if meanings[name] == part_of(test_split))]), None
        )
        if test_split == "none":
            found.pop(TEST, None)
        elif found_test is None or found_test == found[TRAIN]:
            others = ", ".join(name for name in given if name != found[TRAIN])
            raise DataError(f"dataset.test_split is {test_split!r}; {where} has: {others}: type one of them, or none")
        else:
            found = {part: name for part, name in found.items() if name != found_test} | {TEST: found_test}
    said = [f"{found[part]} is used for {part}" for part in NAMES if found.get(part, part) != part]
    unused = [name for name in given if name not in found.values()]
    said += [f"not used: {', '.join(unused)}"] if unused else []
    return {part: given[found[part]] for part in NAMES if part in found}, said
