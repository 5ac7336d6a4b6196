"""The house: arrows between rooms go down only, nobody asks for a stage's name, files are short, planning is light."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.fast

ROOMS = [  # from the door to the cellar: a room may import those below it
    *(
        "scripts",
        "run",
        "sweep",
        "idle",
        "commands",
        "positions",
        "report",
        "config",
        "training",
        "assemble",
        "stages",
        "plan",
    ),
    *("curriculum", "losses", "__init__", "load", "models", "data", "tracking", "store", "signatures", "fingerprint"),
    *("components", "files", "ending", "drawing", "seeds", "distributed", "progress", "surroundings"),
]
BEHIND_THE_DOOR = {  # who imports more of curriculum than its door
    ("training", "checks"),
    ("assemble", "scores"),
    ("scripts", "agreement"),
}
MOST_LINES = 300
MOST_LINES_OF_ALL = 13_700  # raised for what users can newly do (last: faults, strangers, wrong words), else not

FILES = sorted([*ROOT.glob("fitnets/**/*.py"), ROOT / "run.py", *ROOT.glob("scripts/*.py")])


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): ast.parse(file.read_text()) for file in FILES}


def room_of(module: str) -> str:
    package, *rest = module.split(".")
    if package != "fitnets":
        return package
    return rest[0] if rest else "__init__"


def imports_of(module: str) -> set[str]:
    """Our modules that a module imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return (found & MODULES.keys()) - {module}


IMPORTS = {module: imports_of(module) for module in MODULES}


def test_every_file_is_in_a_room() -> None:
    assert {room_of(module) for module in MODULES} == set(ROOMS)


def test_arrows_go_down_only() -> None:
    up = {
        f"{module} -> {other}"
        for module, others in IMPORTS.items()
        for other in others
        if ROOMS.index(room_of(module)) > ROOMS.index(room_of(other))
    }
    assert up == set()


def test_the_report_reads_the_store_and_nothing_of_training() -> None:
    rooms = {room_of(other) for module in MODULES if room_of(module) == "report" for other in IMPORTS[module]}
    assert rooms <= {"report", "store", "files", "tracking"}
    for module, others in IMPORTS.items():
        if room_of(module) in ("data", "stages", "curriculum", "losses", "models", "training"):
            assert not any(room_of(other) == "report" for other in others), module


def test_no_files_import_each_other_in_a_circle() -> None:
    """Not inside functions either."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"a circle: {' -> '.join([*path, module])}"
        if module not in done:
            for other in sorted(IMPORTS[module]):
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_curriculum_is_known_by_its_door() -> None:
    """The rest imports `fitnets.curriculum`; who needs a room behind it stands in a short list."""
    behind = {
        (room_of(module), other.removeprefix("fitnets.curriculum."))
        for module, others in IMPORTS.items()
        for other in others
        if other.startswith("fitnets.curriculum.") and room_of(module) != "curriculum"
    }
    assert behind == BEHIND_THE_DOOR


# ------------------------------------------------------------------------------- names of stages, arms

NAMES = {file.stem for group in ("stage", "arm") for file in (ROOT / "conf" / group).glob("*.yaml")}
ALSO_ROLES = {"teacher", "hint", "score"}  # roles of networks, keys of a spec: see the second test
ALLOWED = {  # where such a word is something else
    ("fitnets.config.schema", "kd"),  # a key of `epochs`
    ("fitnets.losses.features", "attention"),  # a term of a loss
}


def words_in(node: ast.AST | None) -> set[str]:
    """String constants, also of a tuple, list or set."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return {word for part in node.elts for word in words_in(part)}
    return set()


def compared_words(node: ast.AST) -> set[str]:
    """What a piece of code is compared with: by ==, in, a prefix, a case, a key of a dict that is written out."""
    parts: list[ast.AST | None] = []
    if isinstance(node, ast.Compare):
        parts = [node.left, *node.comparators]
    elif isinstance(node, ast.MatchValue):
        parts = [node.value]
    elif isinstance(node, ast.Dict):
        parts = [*node.keys]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PREFIXES:
        parts = [*node.args]
    return {word for part in parts for word in words_in(part)}


PREFIXES = ("startswith", "endswith", "removeprefix", "removesuffix")
OUTSIDE = [module for module in MODULES if room_of(module) != "stages"]


def test_nobody_asks_for_the_name_of_a_stage_or_an_arm() -> None:
    """A stage says all about itself; the few places where such a word means something else are counted."""
    assert len(NAMES) >= 24
    found = {
        (module, word)
        for module in OUTSIDE
        for node in ast.walk(MODULES[module])
        for word in compared_words(node) & (NAMES - ALSO_ROLES)
    }
    assert found == ALLOWED


def names_a_stage(node: ast.AST) -> bool:
    """run.stage, result["stage"], stage["name"], run.arm, arm.name, config["stage"]["name"] ..."""
    if isinstance(node, ast.Attribute):
        return node.attr in ("stage", "arm") or (node.attr == "name" and is_stage(node.value))
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return node.slice.value in ("stage", "arm") or (node.slice.value == "name" and is_stage(node.value))
    return False


def is_stage(node: ast.AST) -> bool:
    return names_a_stage(node) or (isinstance(node, ast.Name) and node.id in ("stage", "arm"))


def test_no_stage_or_arm_is_compared_with_any_word() -> None:
    found = [
        f"{module}:{node.lineno}: {ast.unparse(node)}"
        for module in OUTSIDE
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Compare)
        and all(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops)
        and any(names_a_stage(side) for side in [node.left, *node.comparators])
        and any(words_in(side) for side in [node.left, *node.comparators])
        and not (isinstance(node.ops[0], ast.In | ast.NotIn) and words_in(node.left))  # a key of what a stage says
    ]
    assert found == []


# ------------------------------------------------------------------------------------------- size


def test_no_file_is_long_and_the_house_has_not_grown() -> None:
    lines = {file: len(file.read_text().splitlines()) for file in FILES}
    assert {file.name: count for file, count in lines.items() if count > MOST_LINES} == {}
    by_room: dict[str, int] = defaultdict(int)
    for file, count in lines.items():
        by_room[room_of(module_of(file))] += count
    assert sum(lines.values()) <= MOST_LINES_OF_ALL, f"{sum(lines.values())} lines: {dict(by_room)}"


# ------------------------------------------------------------------------------------ light planning

PLANNING = """
import sys
from fitnets.commands import arm_names, commands_of, composed
from fitnets.config import check
from fitnets.plan import plan
from fitnets.store import with_parents

for words in (["stage=fitnet"], ["stage.arms=[backprop,fitnet_dkd,crd]"], ["stage=kd", "curriculum=easy_to_hard"]):
    config = composed(words)
    assert check(config.resolved, arm_names()) == []
    runs = with_parents(run for command in commands_of(config, print) for run in plan(command.config, command.arm))
    assert len({run.fingerprint for run in runs}) == len(runs) > 1
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "pytorch_lightning", "torchmetrics"}))
"""


def test_composing_checking_and_planning_import_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", PLANNING], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
