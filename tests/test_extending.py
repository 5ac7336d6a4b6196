"""docs/extending.md works as printed: its files, in a folder outside the repository, and each of its commands."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file

from fitnets.plan import plan
from fitnets.store import read_result
from tests.conftest import ROOT, SMALL, composed, go, one_in

BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL)
FILES = {named[1]: text for _, text in BLOCKS if (named := re.match(r"# (my_\S+)\n", text))}
COMMANDS = [
    line
    for language, text in BLOCKS
    if language == "bash"
    for line in text.splitlines()
    if line.startswith("python FITNETS/run.py --config-dir my_conf ")
]
COMPARISON = next(line for line in COMMANDS if "stage.arms=" in line)
ONE_STAGE = [line for line in COMMANDS if line != COMPARISON]


def words_of(command: str) -> list[str]:
    """The command's own words, and sizes that make it take seconds; a network of the page's own keeps its own."""
    words = shlex.split(command)[4:]
    own = {word.partition("=")[0] for word in words}
    return [word for word in SMALL if word.partition(".net.")[0] not in own] + words


def write_files(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_the_page_has_what_it_promises() -> None:
    groups = {str(Path(name).parent).removeprefix("my_conf/") for name in FILES if name.endswith(".yaml")}
    assert groups == {
        *("kd_loss", "hint_loss", "stage", "arm", "student", "teacher", "hint", "dataset"),
        *("curriculum/score", "curriculum/pacing"),
    }
    for name, text in FILES.items():
        lines = [line for line in text.splitlines() if line and not line.startswith(("#", "import", "from"))]
        assert len(lines) <= 16, f"{name} is longer than what a reader types at once"
    assert len(ONE_STAGE) >= 9


@pytest.mark.slow
def test_a_comparison_of_its_arms_in_a_folder_outside(tmp_path: Path) -> None:
    """As a user types it, in a process of its own: the table, the page and the folders know their parts as ours."""
    write_files(tmp_path)
    runs = tmp_path / "runs"
    command = [sys.executable, str(ROOT / "run.py"), "--config-dir", "my_conf", *words_of(COMPARISON)]

    def said(*words: str) -> str:
        environment = os.environ | {"PYTHONPATH": ".", "OMP_NUM_THREADS": "1"}
        answer = subprocess.run([*command, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    said(f"runs_dir={runs}")
    (report,) = (runs / "reports").iterdir()
    table, page = (report / "table.md").read_text(), (report / "page.html").read_text()
    for file in ("arm/cosine_mse.yaml", "stage/noisy_kd.yaml"):
        title = yaml.safe_load(FILES[f"my_conf/{file}"])["title"]
        assert f"| {title} | " in table and title in page
    hint_runs = list(runs.glob("hint-*"))
    assert len(hint_runs) == 2
    for folder in hint_runs:
        head = load_file(folder / "head.safetensors")
        assert head.keys() == {"weight"} and not {*load_file(folder / "student.safetensors")} & {"head.weight"}
    steps = [line for folder in runs.glob("kd-*") for line in (folder / "metrics.csv").read_text().splitlines()[:1]]
    assert any("distill/weighted_match" in line for line in steps)

    # one line of the hint loss: the two hint stages and the two KD stages after them are to train again, no other
    losses = tmp_path / "my_hint_losses.py"
    losses.write_text(losses.read_text().replace("1 - F.cosine", "2 - F.cosine"))
    planned = [line for line in said(f"runs_dir={runs}", "dry_run=true").splitlines() if "to train" in line]
    assert planned[0] == f"Plan: 11 stages, 4 to train, in {runs}/"
    assert [line.split()[0] for line in planned[1:]] == ["hint", "kd"]


@pytest.fixture
def my_folder(importable: Path) -> Iterator[Path]:
    """The page's files in a folder that Python imports from, and Hydra as --config-dir my_conf sets it up."""
    write_files(importable)
    places = create_config_search_path(str(ROOT / "conf"))
    places.prepend("command-line", f"file://{importable}/my_conf")
    GlobalHydra.instance().clear()
    Hydra.create_main_hydra2("run", places)
    yield importable
    GlobalHydra.instance().clear()


@pytest.mark.parametrize("command", one_in(5, ONE_STAGE))
def test_each_other_command_trains(command: str, my_folder: Path) -> None:
    config = composed(*words_of(command), f"runs_dir={my_folder}/runs")
    go(config)
    result = read_result(plan(config)[-1], my_folder / "runs")
    assert result and result["updates"] > 0
    for weights in my_folder.glob("runs/*/student.safetensors"):
        assert all(torch.isfinite(tensor).all() for tensor in load_file(weights).values())
