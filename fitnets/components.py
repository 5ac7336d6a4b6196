"""From config to objects: the one place that turns a `_target_` into what it names, and finds its source.

A component is one Python file (or function) and one YAML with its dotted path under `_target_`.
"""

import functools
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any


def resolve(target: str) -> Any:
    """What a dotted path names."""
    return pkgutil.resolve_name(target)


def build(spec: Mapping[str, Any], *args: Any, **runtime: Any) -> Any:
    """Call what `_target_` names with the other keys of `spec` and with what is known only at run time."""
    return builder(spec)(*args, **runtime)


def builder(spec: Mapping[str, Any]) -> Callable[..., Any]:
    """What `_target_` names, with the other keys of `spec` filled in: for what is called at every update."""
    options = {key: value for key, value in spec.items() if key != "_target_"}
    return functools.partial(resolve(spec["_target_"]), **options)


def targets(spec: Any) -> Iterator[str]:
    """Every `_target_` inside a nested spec."""
    if isinstance(spec, Mapping):
        if isinstance(spec.get("_target_"), str):
            yield spec["_target_"]
        for value in spec.values():
            yield from targets(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from targets(value)


@functools.cache
def is_library(target: str) -> bool:
    """Whether `target` comes from Python itself or an installed package, not from this one or the user's files."""
    package = target.partition(".")[0]
    if package in sys.stdlib_module_names:
        return True
    found = _spec(package)
    if package == "fitnets" or found is None:
        return False
    places = [found.origin or "", *(found.submodule_search_locations or [])]
    return any({"site-packages", "dist-packages"} & {*Path(place).parts} for place in places)


@functools.cache
def file_of(module: str) -> Path | None:
    """The file of a module, found without importing it; None where there is none."""
    found = _spec(module)
    return Path(found.origin) if found and found.origin and found.origin.endswith(".py") else None


def _spec(module: str) -> ModuleSpec | None:
    """Where a module lies, found without importing it or its parents (find_spec of importlib imports those)."""
    parent = module.rpartition(".")[0]
    if not parent:
        return PathFinder.find_spec(module)
    package = _spec(parent)
    places = package.submodule_search_locations if package else None
    return PathFinder.find_spec(module, places) if places else None
