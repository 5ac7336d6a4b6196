"""Every file in conf/ composes, passes the checks and runs: a new component is picked up by being there."""

import itertools
from pathlib import Path

import pytest
import torch

from fitnets.check import check_config, check_nets
from fitnets.layers import plan_regressor, resolve_layer
from fitnets.load import build_net
from fitnets.runs import plan, read_result
from tests.conftest import ROOT, SMALL, composed, faked_folder, faked_parquet, go

FILES = sorted(path.relative_to(ROOT / "conf").with_suffix("") for path in (ROOT / "conf").glob("*/**/*.yaml"))
FILES = [file for file in FILES if file.parts[0] != "hydra"]  # launchers: tests/test_launchers.py
OPTIONS = {group: [f for f in FILES if f.parts[0] == group] for group in {f.parts[0] for f in FILES}}
OPTIONS = {group: ["/".join(f.parts[1:]) for f in files] for group, files in OPTIONS.items()}


def needs(file: Path, tmp_path: Path) -> list[str]:
    """What an option needs to compose and be checked here: the data it is made for, small and made on the fly."""
    option = "/".join(file.parts[1:])
    extra = ["trainer=cpu"] if option != "gpu" else []
    pairs = {"resnet20": "resnet56", "wrn_16_2": "wrn_40_2", "aflw_fitnet1": "relu_aflw", "aflw_fitnet2": "relu_aflw"}
    made_for = {"maxout_mnist": "mnist_fitnet", "maxout_svhn": "fitnet4"} | {t: s for s, t in pairs.items()}
    if file.parts[0] == "student":
        teacher = pairs.get(option, "maxout_mnist" if "mnist" in option else None)
        extra += [f"teacher={teacher}"] if teacher else []
    if file.parts[0] == "teacher" and option in made_for:
        extra += [f"student={made_for[option]}"]
        extra += ["regressor=fc"] if option == "maxout_svhn" else []
    size, channels = 32, 3
    for name, shape in (("mnist", (28, 1)), ("aflw", (16, 3))):
        if name in option:
            size, channels = shape
    source = composed(f"experiment={option}")["dataset"]["name"] if file.parts[0] == "experiment" else ""
    at_home = file.parts[0] not in ("dataset", "experiment", "student", "teacher") or option == "digits"
    if at_home or source == "digits":
        return extra
    path = faked_parquet(tmp_path / "fake", size=size, channels=channels)
    if option == "folder":
        return [*extra, f"dataset.path={faked_folder(tmp_path / 'folder')}"]
    extra += ["dataset.label_column=null"] if "cifar100" in option else []
    own = [] if file.parts[0] in ("dataset", "experiment") else ["dataset=hub", "dataset.size=null"]
    return [*extra, *own, f"dataset.path={path}", f"runs_dir={tmp_path}"]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_option_composes_and_passes_the_checks(file: Path, tmp_path: Path) -> None:
    if file.parts[0] == "recipe_on":
        recipe, dataset = next((r, d) for r in OPTIONS["recipe"] for d in OPTIONS["dataset"] if file.name == f"{r}_{d}")
        experiment = {"mnist": "paper/mnist", "cifar10": "paper/cifar10_fitnet1", "cifar100": "paper/cifar10_fitnet1"}[
            dataset
        ]
        choice, more = (
            f"recipe={recipe}",
            [f"experiment={experiment}", *needs(Path("experiment") / experiment, tmp_path)],
        )
    else:
        group, _, option = str(file).partition("/")
        choice, more = f"{group}={option}", needs(file, tmp_path)
        if len(file.parts) == 3 and group == "curriculum":  # a part of one
            (tmp_path / "scores.txt").write_text("1\n" * 1438)  # one for each image of the digits' training file
            choice = f"curriculum/{file.parts[1]}={file.name}"
            more += [
                "curriculum=easy_to_hard",
                *([f"curriculum.score.path={tmp_path}/scores.txt"] * (file.name == "file")),
            ]
        if option in ("score", "controls") and group == "stage":
            more += ["curriculum=easy_to_hard"]
    cfg = composed(choice, *more)
    assert check_config(cfg) == []
    if file.name != "gpu":
        assert check_nets(cfg) == []


def test_components_are_named_as_their_files() -> None:
    for group in ("teacher", "student", "dataset", "init", "stage", "curriculum", "preprocess", "augment"):
        for option in (option for option in OPTIONS[group] if "/" not in option):
            assert composed(f"{group}={option}")[group]["name"] == option
    for option in OPTIONS["logger"]:  # an entry each, so that a list of them can be typed
        assert list(composed(f"logger={option}")["logger"]) == [option]


def test_the_groups_and_enough_of_each() -> None:
    groups = {"stage", "teacher", "student", "dataset", "hint", "init", "curriculum", "trainer", "logger", "experiment"}
    assert groups <= set(OPTIONS)
    assert len(OPTIONS["teacher"]) >= 2 and len(OPTIONS["student"]) >= 3
    assert {"early", "middle", "late"} <= set(OPTIONS["hint"]) and {"auto", "cpu", "gpu"} <= set(OPTIONS["trainer"])


def test_every_top_level_key_and_group_has_a_comment() -> None:
    lines = (ROOT / "conf" / "config.yaml").read_text().split("hydra:")[0].splitlines()
    for number, line in enumerate(lines):
        if line and not line.startswith((" ", "#", "defaults")):
            block = [line, *itertools.takewhile(lambda following: following.startswith(" "), lines[number + 1 :])]
            assert any("#" in part for part in block), f"{line!r} has no comment"


AT_HOME_STUDENTS = [s for s in OPTIONS["student"] if not s.startswith(("mnist", "aflw"))]
AT_HOME_TEACHERS = [t for t in OPTIONS["teacher"] if t.startswith("wide")]


@pytest.mark.parametrize("hint", OPTIONS["hint"])
@pytest.mark.parametrize(
    ("teacher", "student"), list(itertools.product(AT_HOME_TEACHERS, ["thin_deep", "thin_deeper", "thin_relu"]))
)
def test_every_pair_fits_at_every_position_and_usual_size(teacher: str, student: str, hint: str) -> None:
    cfg = composed(f"teacher={teacher}", f"student={student}", f"hint={hint}")
    for shape in ((1, 8, 8), (1, 28, 28), (3, 32, 32)):
        with torch.device("meta"):
            nets = {role: build_net(cfg[role]["net"], shape, 10) for role in ("teacher", "student")}
        shapes = [
            resolve_layer(nets[role], cfg["hint"][f"{role}_layer"], shape, role, "k")[1]
            for role in ("student", "teacher")
        ]
        assert plan_regressor(*shapes).kind == "conv", "our pairs follow the paper's rule"


@pytest.mark.parametrize("student", AT_HOME_STUDENTS)
def test_every_student_runs_through_both_stages(tmp_path: Path, student: str) -> None:
    runs_through(tmp_path, f"student={student}", "teacher.net.widths=[8,12]", "dataset.test_fraction=0.8")


@pytest.mark.parametrize("teacher", OPTIONS["teacher"])
def test_every_teacher_runs_through_both_stages(tmp_path: Path, teacher: str) -> None:
    size, channels = {"maxout_mnist": (28, 1), "relu_aflw": (16, 3), "maxout_svhn": (32, 3)}.get(teacher, (16, 1))
    path = faked_parquet(tmp_path / "fake", size=size, channels=channels, n=40)
    student = {"relu_aflw": "aflw_fitnet1", "maxout_mnist": "mnist_fitnet"}.get(teacher, "thin_deep")
    data = ["dataset=hub", f"dataset.path={path}", "regressor=fc", "batch_size=16", "teacher.recipe.batch_size=16"]
    runs_through(tmp_path, f"teacher={teacher}", f"student={student}", *data)


def runs_through(tmp_path: Path, *overrides: str) -> None:
    epochs = ["epochs.teacher=1", "epochs.hint=1", "epochs.kd=1"]
    cfg = composed("stage=fitnet", *overrides, *epochs, "trainer=cpu", f"runs_dir={tmp_path}")
    go(cfg)
    assert read_result(plan(cfg)[-1], tmp_path)["test_accuracy"] is not None


@pytest.mark.parametrize("experiment", [e for e in OPTIONS["experiment"] if "/" not in e])
def test_every_experiment_on_digits_runs(tmp_path: Path, experiment: str) -> None:
    cfg = composed(f"experiment={experiment}", *SMALL, "epochs.kd=1", "seeds=[0,1]", f"runs_dir={tmp_path}")
    go(cfg)
    assert len(list(tmp_path.glob("reports/*/table.md"))) == 1
