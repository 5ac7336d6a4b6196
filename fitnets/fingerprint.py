"""A hash of the code behind a component: its definition and all that it uses, definition by definition.

Seen is the syntax tree without comments, docstrings and annotations, so rewording changes nothing. Libraries are left
out, but for a component that is a library's own, whose version counts. Nothing is imported.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fitnets.components import file_of, is_library

Imports = dict[str, list[tuple[str, str]]]  # name -> module, name there ("": the module); "*": of every module so taken
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
DEFINITION = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class NotPython(ValueError):
    """A user's file that cannot be parsed."""


@dataclass
class Source:
    """A module by its definitions: the statements that make each top-level name, and where imported names lead.

    A name may be imported twice (try: from a import x, except ImportError: from b import x): all places count.
    """

    package: str
    statements: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: "Imports" = field(default_factory=dict)


@functools.cache
def code_hash(target: str) -> str:
    """Hash of what `target` names and of everything of ours and the user's that it uses."""
    if is_library(target):
        return _version(target.partition(".")[0])
    module, _, name = target.rpartition(".")
    while file_of(module) is None and "." in module:  # a method of a class: the class
        module, _, name = module.rpartition(".")
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
    for cached in (code_hash, source_of, _definition, file_of, is_library):
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
    uses = [_followed(*there) for there in source.imported.get("*", [])]
    uses += [_followed(*there) for there in source.imported.get(name, [])]
    if name in source.statements:
        statements = source.statements[name]
    elif name in source.imported:
        return "", uses
    else:  # a whole module is used, or a name that is made in a way not seen here
        statements = [statement for made in source.statements.values() for statement in made]
        uses += [_followed(*there) for places in source.imported.values() for there in places]
    for statement in statements:
        local = _joined(source.imported, _imported_in(statement, source.package))
        for used in _names_in(statement):
            first, _, rest = used.partition(".")
            if first in source.statements and first != name:
                uses.append((module, first))
            uses += [_followed(there, what or rest) for there, what in local.get(first, [])]
    return "".join(_dumped(statement) for statement in statements), uses


def _followed(module: str, path: str) -> tuple[str, str]:
    """The module and the name in it that a path in a module means: `from a import b` may mean the module a.b."""
    name, _, rest = path.partition(".")
    if name and not is_library(module) and file_of(f"{module}.{name}"):
        return _followed(f"{module}.{name}", rest)
    return module, name.replace("*", "")


@functools.cache
def source_of(module: str) -> Source:
    """What stands in a module's file, which must exist."""
    path = file_of(module)
    assert path is not None
    try:
        return _parsed(
            path.read_text(encoding="utf-8"), module if path.name == "__init__.py" else module.rpartition(".")[0]
        )
    except (SyntaxError, ValueError) as error:  # ValueError: letters that no source may hold
        line = f", line {error.lineno}," if isinstance(error, SyntaxError) else ""
        raise NotPython(f"{path}{line} is no Python: {getattr(error, 'msg', error)}") from error


@functools.cache
def _parsed(text: str, package: str) -> Source:
    found = Source(package)
    for statement in _flat(_without_words(ast.parse(text)).body):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            found.imported = _joined(found.imported, _imports_in([statement], found.package))
        else:
            found.imported = _joined(found.imported, _imports_in(_run_at_once(statement), found.package))
            for name in _made_by(statement):
                found.statements.setdefault(name, []).append(statement)
    return found


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements; of `if TYPE_CHECKING:` only what stands under its else, as the rest is never run."""
    for statement in body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _flat(statement.orelse)
        elif isinstance(statement, ast.Try | ast.TryStar):
            handled = [line for handler in statement.handlers for line in handler.body]
            yield from _flat(statement.body + statement.orelse + statement.finalbody + handled)
        else:
            yield statement


def _run_at_once(statement: ast.AST) -> Iterator[ast.AST]:
    """A statement with all that lies in it, but for what a function or class in it holds."""
    yield statement
    if not isinstance(statement, DEFINITION):
        for inner in ast.iter_child_nodes(statement):
            yield from _run_at_once(inner)


def _made_by(statement: ast.stmt) -> list[str]:
    """The top-level names that a statement makes or changes; one with others in it (if, for, with) all that they do."""
    made = list[str]()
    for node in _run_at_once(statement):
        if isinstance(node, DEFINITION):
            told = [inner.names for inner in ast.walk(node) if isinstance(inner, ast.Global)]
            made += [node.name, *(name for names in told for name in names)]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.append(node.id)
        elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            made += [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)]  # table["key"] = value
        elif isinstance(node, ast.Expr):
            made += [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)]  # register(thing)
    return list(dict.fromkeys(made))


@functools.cache
def _dumped(statement: ast.stmt) -> str:
    return ast.dump(statement)


@functools.cache
def _imported_in(statement: ast.stmt, package: str) -> Imports:
    return _imports_in(ast.walk(statement), package)


@functools.cache
def _names_in(statement: ast.stmt) -> set[str]:
    """Names that are read, with the dotted path that starts at one, as far as it goes."""
    found, inside = set[str](), set[int]()
    for node in ast.walk(statement):  # outer ones come first
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in inside:
            path: list[str] = []
            at: ast.expr = node
            while isinstance(at, ast.Attribute):
                path, at = [at.attr, *path], at.value
                inside.add(id(at))
            if isinstance(at, ast.Name):
                found.add(".".join([at.id, *path]))
    return found


def _imports_in(nodes: Iterable[ast.AST], package: str) -> Imports:
    """What imports bind: name -> module, and name there."""
    found: Imports = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                there = alias.name if alias.asname else alias.name.partition(".")[0]
                found.setdefault(alias.asname or there, []).append((there, ""))
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                found.setdefault(alias.asname or alias.name, []).append((base, alias.name))
    return found


def _joined(first: Imports, second: Imports) -> Imports:
    return {name: list(dict.fromkeys(first.get(name, []) + second.get(name, []))) for name in {**first, **second}}


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
