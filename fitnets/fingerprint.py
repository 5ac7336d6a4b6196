"""A hash of the code behind a component: its definition and all that it uses, definition by definition.

Seen is the syntax tree without comments, docstrings and annotations, so rewording changes nothing. Libraries are left
out, but for a component that is a library's own, whose version counts. Nothing is imported.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field

from fitnets.components import file_of, is_library

DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class NotPython(ValueError):
    """A user's file that cannot be parsed."""


@dataclass
class Source:
    """A module by its definitions: the statements that make each top-level name, and where imported names lead."""

    package: str
    statements: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> module, name there ("": the module)


@functools.cache
def code_hash(target: str) -> str:
    """Hash of what `target` names and of everything of ours and the user's that it uses."""
    if is_library(target):
        return _version(target.partition(".")[0])
    module, _, name = target.rpartition(".")
    seen: dict[tuple[str, str], str] = {}
    todo = [(module, name)]
    while todo:
        at = todo.pop()
        if at in seen or is_library(at[0]) or file_of(at[0]) is None:
            continue
        seen[at], used = _definition(*at)
        todo += used
    return hashlib.sha256(repr(sorted(seen.items())).encode()).hexdigest()


def forget() -> None:
    """Read all files again at the next question (tests edit them)."""
    for cached in (code_hash, source_of, _definition, file_of):
        cached.cache_clear()


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:  # a package of another name, or Python's own
        return package


@functools.cache
def _definition(module: str, name: str) -> tuple[str, list[tuple[str, str]]]:
    """The code that makes a name in a module, and the names that it uses as (module, name)."""
    source = source_of(module)
    if name in source.imported and name not in source.statements:
        return "", [_followed(*source.imported[name])]
    if name not in source.statements:  # a whole module is used, or a name that is made in a way not seen here
        statements = [statement for made in source.statements.values() for statement in made]
        uses = [_followed(*there) for there in source.imported.values()]
    else:
        statements, uses = source.statements[name], []
    for statement in statements:
        local = source.imported | _imports_in(statement, source.package)
        for used in _names_in(statement):
            first, _, rest = used.partition(".")
            if first in source.statements and first != name:
                uses.append((module, first))
            elif first in local:
                there, what = local[first]
                uses.append(_followed(there, what or rest))
    return "".join(ast.dump(statement) for statement in statements), uses


def _followed(module: str, name: str) -> tuple[str, str]:
    """`from a import b` may mean the module a.b."""
    if name and not is_library(module) and file_of(f"{module}.{name}"):
        return f"{module}.{name}", ""
    return module, name


@functools.cache
def source_of(module: str) -> Source:
    """What stands in a module's file, which must exist."""
    path = file_of(module)
    assert path is not None
    try:
        tree = _without_words(ast.parse(path.read_text(encoding="utf-8")))
    except (SyntaxError, ValueError) as error:  # ValueError: letters that no source may hold
        line = f", line {error.lineno}," if isinstance(error, SyntaxError) else ""
        raise NotPython(f"{path}{line} is no Python: {getattr(error, 'msg', error)}") from error
    found = Source(package=module if path.name == "__init__.py" else module.rpartition(".")[0])
    for statement in _flat(tree.body):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            found.imported |= _imports_in(statement, found.package)
        else:
            for name in _made_by(statement):
                found.statements.setdefault(name, []).append(statement)
    return found


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements; of `if TYPE_CHECKING:` only what stands under its else, as the rest is never run."""
    for statement in body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            yield from _flat(statement.orelse)
        elif isinstance(statement, ast.Try):
            handled = [line for handler in statement.handlers for line in handler.body]
            yield from _flat(statement.body + statement.orelse + statement.finalbody + handled)
        else:
            yield statement


def _made_by(statement: ast.stmt) -> list[str]:
    """The top-level names that a statement makes or changes."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    stored = [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    if stored or not isinstance(statement, ast.Expr | ast.Assign):
        return stored
    return [n.id for n in ast.walk(statement) if isinstance(n, ast.Name)]  # register(thing), table["key"] = value


def _names_in(statement: ast.stmt) -> set[str]:
    """Names that are read, and dotted paths that start at one."""
    found: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
    return found - {dotted.partition(".")[0] for dotted in found if "." in dotted}


def _imports_in(statement: ast.stmt, package: str) -> dict[str, tuple[str, str]]:
    """What the imports in a statement bind: name -> module, and name there."""
    found: dict[str, tuple[str, str]] = {}
    for node in ast.walk(statement):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = (alias.name, "")
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                found[alias.asname or alias.name] = (base, alias.name)
    return found


def _without_words(tree: ast.Module) -> ast.Module:
    """The tree without docstrings, annotations and what errors say (comments are not in it)."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        if isinstance(node, ast.Raise):  # what an error says decides no result
            node.exc = node.cause = None
        if isinstance(node, ast.Assert):
            node.msg = None
    return tree
