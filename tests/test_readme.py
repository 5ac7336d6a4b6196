"""The README says what is so: its commands compose, its example runs, its tables are the files in results/."""

import csv
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from fitnets.check import check_config
from fitnets.report.arms import ARM_NAMES
from fitnets.runs import plan, read_result
from tests.conftest import ROOT, SMALL, composed, go

README = (ROOT / "README.md").read_text()
RESULTS = README + (ROOT / "results" / "README.md").read_text()
DOCS = {file.name: file.read_text() for file in sorted((ROOT / "docs").glob("*.md"))}
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
DOC_BLOCKS = [block for text in DOCS.values() for block in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)]
COMMANDS = [
    line.partition(" #")[0].strip()
    for language, text in BLOCKS + DOC_BLOCKS
    if language == "bash"
    for line in text.splitlines()
    if "python run.py" in line and "--config-dir" not in line
]


def test_it_is_short_and_opens_with_the_two_commands() -> None:
    assert len(README.splitlines()) < 220
    first = next(text for language, text in BLOCKS if language == "bash")
    assert [line.split()[:2] for line in first.splitlines()] == [["make", "run"], ["make", "test"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_and_passes_the_checks(command: str) -> None:
    words = [word for word in shlex.split(command)[2:] if word != "-m"]
    words = [word.replace("=DIR", f"={ROOT}").replace("=scores.npy", f"={ROOT}/README.md") for word in words]
    first_of_a_sweep = [re.sub(r"=([^\[\],]+),.*", r"=\1", word) for word in words]
    assert check_config(composed(*first_of_a_sweep)) == []


def test_every_make_target_named_exists() -> None:
    answer = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = set(re.findall(r"make ([a-z-]+)", answer.stdout))
    assert set(re.findall(r"`?make ([a-z-]+)", README.replace("They need make and", ""))) <= listed
    assert {"help", "setup", "run", "check", "test", "test-all"} <= listed


def test_the_example_student_runs(importable: Path) -> None:
    """The three blocks of "Add your own", as printed."""
    for language, text in BLOCKS:
        named = re.match(r"# (my_\S+)\n", text)
        if named and language in ("python", "yaml"):
            (importable / named[1]).parent.mkdir(parents=True, exist_ok=True)
            (importable / named[1]).write_text(text)
    import yaml

    mine = yaml.safe_load((importable / "my_conf" / "student" / "small.yaml").read_text())
    small = [word for word in SMALL if not word.startswith("student")]
    cfg = composed("stage=fitnet", "hint.student_layer=5", *small, f"runs_dir={importable}/runs") | {"student": mine}
    command = next(t for lang, t in BLOCKS if lang == "bash" and "--config-dir" in t)
    assert "student=small" in command and "hint.student_layer=5" in command
    go(cfg)
    assert read_result(plan(cfg)[0], importable / "runs")["hint"]["guided_layer"] == "5"


def test_the_tables_are_those_in_results() -> None:
    """Every row of every table in results/digits_* stands in one of the two pages to the letter, and no other does."""
    rows = set()
    for table in sorted((ROOT / "results").glob("digits_*/table.md")):
        rows |= {line for line in table.read_text().splitlines() if re.match(r"\| (teacher|backprop|KD|hint)", line)}
    assert len(rows) >= 13  # four tables; the teacher's row is the same in each
    shown = [line for line in RESULTS.splitlines() if re.match(r"\| (teacher|backprop|KD|hint)", line)]
    assert set(shown) == rows and len(shown) == 16


def test_the_mnist_table_is_the_one_in_results() -> None:
    """Every arm's error in results/mnist.csv stands in the table in results/README.md, with its n and budget."""
    lines = (ROOT / "results" / "mnist.csv").read_text().splitlines()
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        spread = f" ± {row['error_sd']}" if row["error_sd"] else ""
        arm = ARM_NAMES.get(row["arm"], row["arm"])
        cells = [row["recipe"], arm, f"{row['error_mean']}{spread}", row["n"], row["budget"], row["updates"]]
        assert "| " + " | ".join(cells) + " |" in RESULTS, cells


def test_the_speed_table_is_the_one_in_results() -> None:
    """Each ratio in results/benchmark_cpu.json stands in the README's table, in its row and column."""
    section = README.partition("\n## Speed\n")[2].partition("\n## ")[0]
    names = {
        **{"kd_over_backprop": "a KD step over plain", "hint_over_guided": "a hint step over its guided"},
        **{"kd_over_torchdistill": "a KD step over torch", "hint_over_torchdistill": "a hint step over torch"},
        **{
            "loader_share": "time waiting",
            "framework_over_loop": "epoch over a hand",
            "sweep_over_parts": "sweep of 5",
        },
        **{"curriculum_over_plain": "epoch with a curriculum"},
    }
    columns = {"resnet56-resnet20": 3, "maxout_cifar-fitnet1": 4, "digits-thin_deep": 5, "": 5}
    ratios = json.loads((ROOT / "results" / "benchmark_cpu.json").read_text())["ratios"]
    assert len(ratios) == 27
    for name, value in ratios.items():
        ratio, of, threads = [*name.split("/"), "", "1t"][:3]
        (row,) = [line.split("|") for line in section.splitlines() if line.startswith(f"| {names[ratio]}")]
        assert row[columns[of]].strip("* ").split(" / ")[int(threads[0]) - 1] == f"{value:.3f}", name
        assert ("*" in row[columns[of]]) == (value > float(row[2])), "what misses its aim is bold"


def test_links_and_pictures_exist() -> None:
    for folder, text in ((ROOT, README), *((ROOT / "docs", text) for text in DOCS.values())):
        for target in re.findall(r"\]\(([^)]+)\)", text):
            assert target.startswith("https://") or (folder / target).exists(), target
