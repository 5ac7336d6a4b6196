"""Which options a component takes, read from its source: nothing is imported, so a config is checked without torch."""

import ast

from fitnets.components import file_of, is_library


def parameters_of(target: str, handed: tuple[int, int] = (0, 0)) -> dict[str, bool] | None:
    """The parameters of a function, or of a class's __init__: by name, whether each must be given.

    `handed` counts the first ones that are handed over at run time, to a function and to a class: they are left out.
    None where the source does not say: a library's, one with **options, a class whose __init__ is a library's.
    """
    module, _, name = target.rpartition(".")
    if not module or is_library(target) or not (path := file_of(module)):
        return None
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _of_function(node, handed[0])
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(node, module, handed)
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return parameters_of(f"{node.module}.{alias.name}", handed)
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
