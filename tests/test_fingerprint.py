"""What moves a fingerprint in the code: each kind of file is edited here, and exactly the right stages move."""

import ast
import functools
import importlib.metadata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fitnets import fingerprint, store
from fitnets.plan import plan
from fitnets.store import Run
from tests.conftest import ROOT, composed, go
from tests.planned import ALL, BY_HINT, BY_KD, BY_TEACHER, STUDENTS, anew, moved, stages

pytestmark = pytest.mark.fast

PACKAGE = sorted(ROOT.glob("fitnets/**/*.py"))
ORDERED = "with a curriculum"
EVERYTHING = ALL | {ORDERED}
OF_STUDENTS = STUDENTS | {ORDERED}


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    fingerprint.forget()
    yield
    fingerprint.forget()


def runs() -> dict[str, Run]:
    """The stages, and one with a curriculum; none has its fingerprint yet."""
    ordered = plan(composed("stage=backprop", "curriculum=random"))[0]
    return {name: anew(run) for name, run in (stages() | {ORDERED: ordered}).items()}


@functools.cache
def as_it_is() -> dict[str, Run]:
    """The same runs, with the fingerprints that they have by the code as it stands."""
    found = runs()
    assert all(run.fingerprint for run in found.values())
    return found


@pytest.fixture
def moved_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path, str], str]], set[str]]:
    """The stages that move where every file of the package reads as `edit(file, text)`."""

    def found(edit: Callable[[Path, str], str]) -> set[str]:
        before, touched = as_it_is(), []

        def edited(path: Path, text: str) -> str:
            other = edit(path, text) if path in PACKAGE else text
            if other != text:
                touched.append(path)
            return other

        fingerprint.forget()
        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_text", reading(edited))
            after = moved(before, runs())
        fingerprint.forget()
        assert touched or not after
        return after

    return found


def reading(edit: Callable[[Path, str], str]) -> Callable[..., str]:
    """Path.read_text where every file is edited first."""
    read_text = Path.read_text
    return lambda self, *args, **options: edit(self, read_text(self, *args, **options))


def with_line(at: str, line: str) -> Callable[[Path, str], str]:
    """A line of code more at the start of a function, named as "room:function" or "room:Class.method"."""
    room, name = at.split(":")
    files = [path for path in PACKAGE if path.relative_to(ROOT / "fitnets").with_suffix("").parts[0] == room]
    (target,) = (path for path in files if node_in(path.read_text(), name))

    def edit(path: Path, text: str) -> str:
        if path != target:
            return text
        node = node_in(text, name)
        assert node is not None
        first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
        lines = text.splitlines(keepends=True)
        lines.insert(first.lineno - 1, f"{' ' * first.col_offset}{line}\n")
        return "".join(lines)

    return edit


def node_in(text: str, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    """The definition of a function, class or method in a module."""
    body: list[ast.stmt] = ast.parse(text).body
    found = None
    for part in name.split("."):
        found = next((n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part), None)
        body = found.body if found else []
    return found


CASES = [  # (a function, a line more in it, the stages that use it)
    # stages
    ("stages:Hint.terms", {"hint", "kd"}),
    ("stages:KD.terms", BY_KD),
    ("stages:KD.validation_step", BY_KD),
    ("stages:Supervised.on_validation_epoch_end", EVERYTHING),  # it trains the teacher, whom all others follow
    ("stages:label_head", {"label hint", "label+kd", "label+backprop"}),
    ("stages:HintKD", {"hint+kd"}),
    ("stages:Stage.training_step", EVERYTHING),
    ("stages:make_optimizer", EVERYTHING),
    ("stages:teacher_answers", BY_TEACHER - {"teacher"}),
    # objectives
    ("losses:hint_loss", BY_HINT),
    ("losses:Attention.forward", set()),  # nobody uses it
    ("losses:CRD.forward", set()),
    ("losses:soft_cross_entropy", BY_KD),
    ("losses:hard_cross_entropy", EVERYTHING),
    ("losses:Decoupled.forward", set()),
    ("losses:linear", BY_KD),
    ("losses:saturating", set()),
    ("losses:Objective.forward", BY_HINT | BY_KD),
    # networks
    ("models:thin_maxout", OF_STUDENTS),
    ("models:WideShallow.__init__", BY_TEACHER),
    ("models:ResNet.forward", set()),
    ("models:MaxoutConv2d.forward", EVERYTHING),
    ("models:plan_regressor", BY_HINT),
    ("models:parameters_below", {"hint", "kd", "label hint"}),
    ("models:scaled", EVERYTHING),
    # data
    ("seeds:derive", EVERYTHING),
    ("data:drawn", EVERYTHING),
    ("data:ShuffledBatches.indices", EVERYTHING),
    ("data:standardise", EVERYTHING),
    ("data:gcn_zca", set()),
    ("data:digits", EVERYTHING),
    ("data:hub", set()),
    # the order of samples
    ("curriculum:pool_size", {ORDERED}),
    ("curriculum:root", {ORDERED}),
    ("curriculum:step", set()),
    # what measures, draws, logs, reports and plans
    ("training:ece", set()),
    ("training:hardest", set()),
    ("report:write", set()),
    ("tracking:started", set()),
    ("plan:plan", set()),
]


@pytest.mark.parametrize(("at", "expected"), CASES, ids=[at for at, _ in CASES])
def test_an_edit_of_the_code_moves_exactly_what_uses_it(moved_by, at: str, expected: set[str]) -> None:
    assert moved_by(with_line(at, "edited = True")) == (expected or set())


def test_words_for_readers_move_nothing(moved_by) -> None:
    """A comment, a docstring reworded or added, another layout, other annotations and errors, in every file at once."""
    assert moved_by(lambda _path, text: "# a comment\n" + text.replace("\n\n\n", "\n\n\n# another\n")) == set()
    assert moved_by(with_other_docstrings) == set()
    assert moved_by(lambda _path, text: "\n\n".join(text.split("\n\n\n"))) == set()
    assert moved_by(lambda _path, text: text.replace(": Tensor", ": Any").replace("-> Tensor", "-> Any")) == set()
    assert moved_by(with_other_errors) == set()


def with_other_docstrings(_path: Path, text: str) -> str:
    """Every docstring another one, also where there is none; written anew, so comments and layout go too."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            if ast.get_docstring(node) is not None:
                del node.body[0]
            node.body.insert(0, ast.Expr(ast.Constant("Reworded.")))
    return ast.unparse(tree)


def with_other_errors(_path: Path, text: str) -> str:
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Raise) and node.lineno == node.end_lineno and '"' in lines[node.lineno - 1]:
            lines[node.lineno - 1] = lines[node.lineno - 1].replace('"', '"Oh: ', 1)
    return "\n".join(lines)


def test_a_factor_on_a_loss_moves_its_stage(moved_by) -> None:
    """A number changed is code: in the stage, and where a class keeps it."""

    def seven_times(path: Path, text: str) -> str:
        return text.replace("return self.objective(", "return 7 * self.objective(") if path.name == "hint.py" else text

    assert moved_by(seven_times) == {"hint", "kd"}
    assert moved_by(lambda path, text: text.replace("/ 2", "/ 3") if path.name == "features.py" else text) == BY_HINT


def test_a_curriculum_moves_with_its_own_code_and_a_score_with_its_function(moved_by) -> None:
    words = ("stage=backprop", "curriculum=easy_to_hard", "curriculum/score=teacher_loss")

    def prints() -> dict[str, str]:
        run = anew(plan(composed(*words))[0])
        return {"student": run.fingerprint, "score": run.parents["score"].fingerprint}

    before = prints()
    assert moved_by(with_line("curriculum:teacher_loss", "edited = True")) == set(), "no stage here has that score"
    for room, name, expected in (
        ("curriculum", "teacher_loss", {"student", "score"}),
        ("curriculum", "teacher_entropy", set()),
        ("curriculum", "ranking", {"student"}),
    ):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Path, "read_text", reading(with_line(f"{room}:{name}", "edited = True")))
            fingerprint.forget()
            after = prints()
        assert {which for which in before if before[which] != after[which]} == expected, name


def test_the_number_that_all_share_moves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    as_it_is()
    monkeypatch.setattr(store, "SHARED_VERSION", store.SHARED_VERSION + 1)
    assert moved(as_it_is(), runs()) == EVERYTHING


def test_a_librarys_version_counts_where_a_component_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's optimizer is a component by its `_target_`; of what our code imports, the version is left out."""
    version = importlib.metadata.version
    before = as_it_is()
    for package, expected in (("torch", EVERYTHING), ("numpy", set())):
        with monkeypatch.context() as patched:
            patched.setattr(importlib.metadata, "version", lambda name, p=package: "99" if name == p else version(name))
            fingerprint.forget()
            assert moved(before, runs()) == expected, package
    with monkeypatch.context() as patched:
        patched.setattr(importlib.metadata, "version", lambda name: "99" if name == "torch" else version(name))
        fingerprint.forget()
        own = plan(composed("stage=backprop", "optimizer._target_=fitnets.stages.optimizers.RMSPropFloor"))[
            0
        ].fingerprint
    fingerprint.forget()
    assert (
        own
        == plan(composed("stage=backprop", "optimizer._target_=fitnets.stages.optimizers.RMSPropFloor"))[0].fingerprint
    )


# ------------------------------------------------------------------------------------ a user's own files


@pytest.fixture
def my_nets(importable: Path) -> Path:
    """A package of the user's own with a student that imports a block from a sibling, both relatively and not."""
    package = importable / "my_nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "blocks.py").write_text(
        "from torch import nn\n\n"
        "def block(i, o):\n    return nn.Conv2d(i, o, 3, padding=1)\n\n"
        "def unused():\n    return 1\n"
    )
    (package / "student.py").write_text(
        "from torch import nn\nfrom .blocks import block\n\n"
        "def student(input_shape, num_classes, width=4):\n"
        "    return nn.Sequential(block(input_shape[0], width), nn.ReLU(), block(width, width), nn.ReLU(),\n"
        "                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))\n"
    )
    return package


MINE = ("~student.net.blocks", "~student.net.pieces", "student.net._target_=my_nets.student.student")


def with_files(words: tuple[str, ...], changes: dict[Path, str]) -> set[str]:
    """The stages that move where these files are written anew."""
    before = {name: anew(run) for name, run in stages(*words).items()}
    fingerprint.forget()
    assert all(run.fingerprint for run in before.values())
    for path, text in changes.items():
        path.write_text(text)
    fingerprint.forget()
    return moved(before, {name: anew(run) for name, run in stages(*words).items()})


@pytest.mark.parametrize("file", ["student.py", "blocks.py"])
def test_editing_a_users_student_retrains_it_and_not_the_teacher(my_nets: Path, file: str) -> None:
    text = (my_nets / file).read_text()
    assert with_files(MINE, {my_nets / file: text + "\n# a line\n"}) == set(), "a comment moves nothing"
    assert with_files(MINE, {my_nets / file: text.replace("return 1", "return 2") + "\n\nother = 3\n"}) == set()
    edited = text.replace("width=4", "width=8").replace("o, 3, padding=1", "o, 5, padding=2")
    assert with_files(MINE, {my_nets / file: edited}) == STUDENTS


def test_what_a_students_file_imports_from_elsewhere_counts_too(my_nets: Path) -> None:
    """A module beside it; and a package whose __init__ only hands the name on."""
    (my_nets.parent / "my_head.py").write_text("head = 1\n")
    text = (my_nets / "student.py").read_text().replace("width=4", "width=4 * head")
    (my_nets / "student.py").write_text("from my_head import head\n" + text)
    (my_nets / "__init__.py").write_text("from .student import student\n")
    words = (*MINE[:2], "student.net._target_=my_nets.student")
    assert with_files(words, {my_nets.parent / "my_head.py": "head = 2\n"}) == STUDENTS
    blocks = (my_nets / "blocks.py").read_text().replace("3, padding=1", "1")
    assert with_files(words, {my_nets / "blocks.py": blocks}) == STUDENTS


def test_what_is_imported_for_readers_only_does_not_count_and_its_else_does(my_nets: Path) -> None:
    lines = [
        "from typing import TYPE_CHECKING",
        "if TYPE_CHECKING:",
        "    from my_read import x",
        "else:",
        "    from my_run import x",
    ]
    text = (my_nets / "student.py").read_text().replace("width=4", "width=4 * x")
    (my_nets / "student.py").write_text("\n".join([*lines, text]))
    for name in ("my_read", "my_run"):
        (my_nets.parent / f"{name}.py").write_text("x = 1\n")
    assert with_files(MINE, {my_nets.parent / "my_read.py": "x = 2\n"}) == set()
    assert with_files(MINE, {my_nets.parent / "my_run.py": "x = 2\n"}) == STUDENTS


def test_a_users_own_student_runs_through_both_stages(my_nets: Path, small) -> None:
    """Any nn.Module: layers by module name, the non-linearity probed, no positions declared."""
    config = small("stage=fitnet", *MINE, "hint.teacher_layer=conv1", 'hint.student_layer="1"', "epochs.kd=1")
    go(config)
    hint = store.read_result(plan(config)[0], Path(config["runs_dir"]))["hint"]
    assert hint["guided_layer"] == "1" and hint["hint_layer"] == "conv1"
