"""Whether a component exists and which options it takes, by its source alone: a config is checked without torch."""

import ast

from fitnets.components import file_of, is_library
from fitnets.fingerprint import NotPython, code_hash, source_of


def problem_with(target: str) -> str | None:
    """Why `target` cannot be found, judged by its source without importing it; None if it can (or is a library's)."""
    module, _, name = target.rpartition(".")
    if not module:
        return f"{target!r} is no dotted path; write package.module.name"
    if is_library(target):
        return None
    path = file_of(module)
    if path is None:
        return f"there is no module {module!r}; a component is in a Python file (is its folder on PYTHONPATH?)"
    try:
        source = source_of(module)
        if not module.startswith("fitnets."):  # the files that it uses are read too
            code_hash(target)
    except NotPython as error:
        return str(error)
    names = {*source.statements, *source.imported}
    if name not in names and (itself := file_of(target)):
        there = ", ".join(sorted(source_of(target).statements)) or "nothing"
        return f"{itself.name} is a file; add what it defines, {target}.NAME; it has: {there}"
    return None if name in names else f"{path.name} defines no {name!r}; it has: {', '.join(sorted(names))}"


def parameters_of(target: str, handed: tuple[int, int] = (0, 0)) -> dict[str, bool] | None:
    """The parameters of a function, or of a class's __init__: by name, whether each must be given.

    `handed` counts the first ones that are handed over at run time, to a function and to a class: they are left out.
    None where the source does not say: a library's, one with **options, a class whose __init__ is a library's.
    """
    module, _, name = target.rpartition(".")
    if not module or is_library(target) or not file_of(module):
        return None
    source = source_of(module)
    if name in source.imported:
        places = [".".join(place) for place in source.imported[name]]
        return None if len(places) > 1 or places == [target] else parameters_of(places[0], handed)
    for statement in source.statements.get(name, []):
        if isinstance(statement, ast.FunctionDef):
            return _of_function(statement, handed[0])
        if isinstance(statement, ast.ClassDef):
            return _of_class(statement, module, handed)
    return None


def _of_function(node: ast.FunctionDef, handed: int) -> dict[str, bool] | None:
    if node.args.kwarg is not None:
        return None
    names = [each.arg for each in node.args.posonlyargs + node.args.args]
    needed = names[: len(names) - len(node.args.defaults)]
    parameters = {name: name in needed for name in names[handed:]}
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        parameters[argument.arg] = default is None
    return parameters


def _of_class(node: ast.ClassDef, module: str, handed: tuple[int, int]) -> dict[str, bool] | None:
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _of_function(statement, handed[1] + 1)  # without self
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list) and not node.bases:
        fields = [statement for statement in node.body if isinstance(statement, ast.AnnAssign)]
        return {ast.unparse(field.target): field.value is None for field in fields[handed[1] :]}
    if len(node.bases) == 1 and isinstance(node.bases[0], ast.Name):
        return parameters_of(f"{module}.{node.bases[0].id}", handed)
    return None
