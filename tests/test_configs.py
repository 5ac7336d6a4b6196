"""Every file in conf/ composes, passes the checks and runs: a new component is picked up by being there."""

import itertools
from pathlib import Path

import pytest

from fitnets.check import check_config, check_nets
from fitnets.runs import plan, read_result
from tests.conftest import ROOT, SMALL, composed, go

FILES = sorted(path.relative_to(ROOT / "conf").with_suffix("") for path in (ROOT / "conf").glob("*/*.yaml"))
OPTIONS = {group: [f.name for f in FILES if f.parent.name == group] for group in {f.parent.name for f in FILES}}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_option_composes_and_passes_the_checks(file: Path) -> None:
    cfg = composed(f"{file.parent}={file.name}", *(["trainer=cpu"] if file.name != "gpu" else []))
    assert check_config(cfg) == []
    if file.name != "gpu":
        assert check_nets(cfg) == []


def test_components_are_named_as_their_files() -> None:
    for group in ("teacher", "student", "dataset", "init", "stage", "curriculum", "logger"):
        for option in OPTIONS[group]:
            assert composed(f"{group}={option}")[group]["name"] == option


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


@pytest.mark.parametrize("hint", OPTIONS["hint"])
@pytest.mark.parametrize(("teacher", "student"), list(itertools.product(OPTIONS["teacher"], OPTIONS["student"])))
def test_every_pair_fits_at_every_position_and_usual_size(teacher: str, student: str, hint: str) -> None:
    import torch

    from fitnets.layers import plan_regressor, resolve_layer
    from fitnets.load import build_net

    cfg = composed(f"teacher={teacher}", f"student={student}", f"hint={hint}")
    for shape in ((1, 8, 8), (1, 28, 28), (3, 32, 32)):
        with torch.device("meta"):
            nets = {role: build_net(cfg[role]["net"], shape, 10) for role in ("teacher", "student")}
        shapes = [
            resolve_layer(nets[role], cfg["hint"][f"{role}_layer"], shape, role, "k")[1]
            for role in ("student", "teacher")
        ]
        assert plan_regressor(*shapes).kind == "conv", "our pairs follow the paper's rule"


@pytest.mark.parametrize("student", OPTIONS["student"])
@pytest.mark.parametrize("teacher", OPTIONS["teacher"])
def test_every_pair_runs_through_both_stages(tmp_path: Path, teacher: str, student: str) -> None:
    small = ["epochs.teacher=1", "epochs.hint=1", "epochs.kd=1", "teacher.net.widths=[8,12]", "trainer=cpu"]
    cfg = composed("stage=fitnet", f"teacher={teacher}", f"student={student}", *small, f"runs_dir={tmp_path}")
    go(cfg)
    assert read_result(plan(cfg)[-1], tmp_path)["test_accuracy"] > 0


@pytest.mark.parametrize("experiment", OPTIONS["experiment"])
def test_every_experiment_runs(tmp_path: Path, experiment: str) -> None:
    cfg = composed(f"experiment={experiment}", *SMALL, "epochs.kd=1", "seeds=[0,1]", f"runs_dir={tmp_path}")
    go(cfg)
    assert len(list(tmp_path.glob("reports/*/table.md"))) == 1
