"""Which part of a data set is which: train, validation and test by the names that people give them."""

from collections.abc import Mapping
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


def chosen(given: Mapping[str, T], test_split: str | None, where: str) -> tuple[dict[str, T], list[str]]:
    """The parts to use by what they are used for, of those `given` by name; and what to say of it.

    `test_split` names the part that is the test part; none: no part, so that it is drawn from train. Raises DataError
    where there is no train part, two for one use, or none of that name.
    """
    found: dict[str, str] = {}
    for name in given:
        if part := part_of(name):
            if part in found:
                raise DataError(f"{where} has {found[part]} and {name}, which both mean {part}: remove one of them")
            found[part] = name
    listed = ", ".join(given) or "nothing"
    if TRAIN not in found:
        raise DataError(f"{where} has no train part; it has: {listed}. Name the part to train on train")
    if test_split is not None:
        found_test = next((name for name in given if test_split in (name, part_of(name))), None)
        if test_split == "none":
            found.pop(TEST, None)
        elif found_test is None or found_test == found[TRAIN]:
            others = ", ".join(name for name in given if name != found[TRAIN])
            raise DataError(f"dataset.test_split is {test_split!r}; {where} has: {others}: type one of them, or none")
        else:
            found = {part: name for part, name in found.items() if name != found_test} | {TEST: found_test}
    said = [f"{found[part]} is used for {part}" for part in (VALIDATION, TEST) if found.get(part, part) != part]
    unused = [name for name in given if name not in found.values()]
    said += [f"not used: {', '.join(unused)}"] if unused else []
    return {part: given[found[part]] for part in NAMES if part in found}, said
