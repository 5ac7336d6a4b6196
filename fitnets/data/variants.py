"""In how many ways augmentation shows one sample. Imports no torch: planning asks this too."""

from collections.abc import Mapping
from typing import Any


def variants_of(augment: Mapping[str, Any]) -> int | None:
    """1 without augmentation, 2 with mirrored images (0 as it is, 1 mirrored), K with `variants: K`.

    None where each draw is free: pad-crop has 81 or 289 windows, twice that with mirrors.
    """
    if augment.get("variants"):
        return augment["variants"]
    if augment["crop"]:
        return None
    return 2 if augment["flip"] else 1


def how_answered(answers: str, augment: Mapping[str, Any]) -> str:
    """What `answers` means: auto is cached where variants can be counted, else online. Free memory has no say."""
    if answers != "auto":
        return answers
    return "online" if variants_of(augment) is None else "cached"
