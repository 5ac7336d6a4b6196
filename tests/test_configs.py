"""Every file in conf/ composes, passes the checks and runs: a new component is picked up by being there."""

import csv
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fitnets.commands import arm_names
from fitnets.config import check
from fitnets.load import build_net
from fitnets.models.layers import resolve_layer
from fitnets.models.regressors import plan_regressor
from fitnets.plan import plan
from fitnets.store import read_result, with_parents
from fitnets.training.preflight import problems_with
from tests.conftest import ROOT, SMALL, composed, faked_folder, faked_parquet, go, named_runs, one_in, quick

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
    path = faked_parquet(tmp_path / "fake", size=size, channels=channels, n=100)  # all classes in a last tenth
    if option == "folder":
        return [*extra, f"dataset.path={faked_folder(tmp_path / 'folder')}"]
    extra += ["dataset.label_column=null"] if "cifar100" in option else []
    own = [] if file.parts[0] in ("dataset", "experiment") else ["dataset=hub", "dataset.size=null"]
    return [*extra, *own, f"dataset.path={path}", f"runs_dir={tmp_path}"]


QUICK = {group: options[0] for group, options in OPTIONS.items()} | {"student": "thin_deep", "teacher": "wide_shallow"}


@pytest.mark.parametrize("file", quick(FILES, lambda file: file == Path(file.parts[0], QUICK[file.parts[0]])), ids=str)
def test_every_option_composes_and_passes_the_checks(file: Path, tmp_path: Path) -> None:
    group, _, option = str(file).partition("/")
    words = [f"{group}={option}", *needs(file, tmp_path)]
    words += ["stage=fitnet"] if group not in ("stage", "experiment", "sweep") else ["seeds=[0,1]"]
    if group == "recipe_on":
        recipe, dataset = next((r, d) for r in OPTIONS["recipe"] for d in OPTIONS["dataset"] if option == f"{r}_{d}")
        experiment = "paper/mnist" if dataset == "mnist" else "paper/cifar10_fitnet1"
        words = [f"recipe={recipe}", f"experiment={experiment}", *needs(Path("experiment") / experiment, tmp_path)]
        words += ["stage=fitnet"]
    if group == "arm":
        words = [f"stage.arms=[{option}]", "trainer=cpu", "seeds=[0,1]"]
    if group == "curriculum" and len(file.parts) == 3:  # a part of one
        (tmp_path / "scores.txt").write_text("1\n" * 1438)  # one for each image of the digits' training file
        words = [f"curriculum/{file.parts[1]}={file.name}", "curriculum=easy_to_hard", *words[1:]]
        words += [f"curriculum.score.path={tmp_path}/scores.txt"] if file.name == "file" else []
    if group == "stage" and ("needs_curriculum" in said(file) or "needs_score" in said(file)):
        words += ["curriculum=easy_to_hard"]
    config = composed(*words)
    assert check(config.resolved, arm_names()) == []
    if file.name != "gpu":
        assert problems_with(config, with_parents(named_runs(config))) == []


def said(file: Path) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "conf" / file.with_suffix(".yaml")).read_text())


def test_components_are_named_as_their_files() -> None:
    for group in ("teacher", "student", "dataset", "init", "stage", "curriculum", "preprocess", "augment"):
        for option in (option for option in OPTIONS[group] if "/" not in option):
            of_file = said(Path(group) / option)
            assert of_file.get(group, of_file)["name"] == option
    for option in OPTIONS["logger"]:  # an entry each, so that a list of them can be typed
        assert list(composed(f"logger={option}")["logger"]) == [option]


def test_every_group_that_a_command_line_may_name_has_a_default() -> None:
    """A folder of conf/ that the defaults list does not have could not be typed; a part of a group is typed by it."""
    defaults = yaml.safe_load((ROOT / "conf" / "config.yaml").read_text())["defaults"]
    named = {key.split()[-1].strip("/") for entry in defaults if isinstance(entry, dict) for key in entry}
    assert set(OPTIONS) - {"arm"} <= named, "an arm is named by stage.arms"


def test_every_top_level_key_and_group_has_a_comment() -> None:
    lines = (ROOT / "conf" / "config.yaml").read_text().split("hydra:")[0].splitlines()
    for number, line in enumerate(lines):
        if line and not line.startswith((" ", "#", "defaults")):
            block = [line, *itertools.takewhile(lambda following: following.startswith(" "), lines[number + 1 :])]
            assert any("#" in part for part in block), f"{line!r} has no comment"


AT_HOME_STUDENTS = [s for s in OPTIONS["student"] if not s.startswith(("mnist", "aflw"))]
AT_HOME_TEACHERS = [t for t in OPTIONS["teacher"] if t.startswith("wide")]


@pytest.mark.parametrize("hint", ["early", "middle", "late"])
@pytest.mark.parametrize(
    ("teacher", "student"), one_in(3, itertools.product(AT_HOME_TEACHERS, ["thin_deep", "thin_deeper", "thin_relu"]))
)
def test_every_pair_fits_at_every_position_and_usual_size(teacher: str, student: str, hint: str) -> None:
    config = composed(f"teacher={teacher}", f"student={student}", f"hint={hint}")
    for shape in ((1, 8, 8), (1, 28, 28), (3, 32, 32)):
        with torch.device("meta"):
            nets = {role: build_net(config[role]["net"], shape, 10) for role in ("teacher", "student")}
        shapes = [
            resolve_layer(nets[role], config["hint"][f"{role}_layer"], shape, role, "k")[1]
            for role in ("student", "teacher")
        ]
        assert plan_regressor(*shapes).kind == "conv", "our pairs follow the paper's rule"


@pytest.mark.parametrize("student", quick(AT_HOME_STUDENTS, lambda name: name == "wrn_16_2"))
def test_every_student_runs_through_both_stages(tmp_path: Path, student: str) -> None:
    runs_through(tmp_path, f"student={student}", "teacher.net.widths=[8,12]", "dataset.test_fraction=0.8")


@pytest.mark.slow
@pytest.mark.parametrize("teacher", OPTIONS["teacher"])
def test_every_teacher_runs_through_both_stages(tmp_path: Path, teacher: str) -> None:
    size, channels = {"maxout_mnist": (28, 1), "relu_aflw": (16, 3), "maxout_svhn": (32, 3)}.get(teacher, (16, 1))
    path = faked_parquet(tmp_path / "fake", size=size, channels=channels, n=40)
    student = {"relu_aflw": "aflw_fitnet1", "maxout_mnist": "mnist_fitnet"}.get(teacher, "thin_deep")
    data = ["dataset=hub", f"dataset.path={path}", "regressor=fc", "batch_size=16", "teacher.recipe.batch_size=16"]
    runs_through(tmp_path, f"teacher={teacher}", f"student={student}", *data)


def runs_through(tmp_path: Path, *overrides: str) -> None:
    epochs = ["epochs.teacher=1", "epochs.hint=1", "epochs.kd=1"]
    config = composed("stage=fitnet", *overrides, *epochs, "trainer=cpu", f"runs_dir={tmp_path}")
    go(config)
    assert read_result(plan(config)[-1], tmp_path)["test_accuracy"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [e for e in OPTIONS["experiment"] if "/" not in e])
def test_every_experiment_on_digits_runs(tmp_path: Path, experiment: str) -> None:
    config = composed(f"experiment={experiment}", *SMALL, "epochs.kd=1", "seeds=[0,1]", f"runs_dir={tmp_path}")
    go(config)
    assert len(list(tmp_path.glob("reports/*/table.md"))) == 1


@pytest.mark.slow
def test_every_arm_runs_beside_the_stages(tmp_path: Path) -> None:
    """With its own title in the table; how it is called is all that a table knows of it."""
    arms = ["backprop", "kd", *OPTIONS["arm"]]
    words = ["seeds=[0,1]", f"stage.arms=[{','.join(arms)}]", "epochs.hint=1", "epochs.kd=1", f"runs_dir={tmp_path}"]
    go(composed(*SMALL, *words, "updates_per_epoch=3"))
    (table,) = tmp_path.glob("reports/*/table.md")
    for arm in OPTIONS["arm"]:
        assert f"| {said(Path('arm') / arm)['title']} |" in table.read_text()
    with open(table.with_suffix(".csv")) as file:
        assert [row["arm"] for row in csv.DictReader(file)] == arms
