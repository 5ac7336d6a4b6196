"""The documents say what is so: commands compose, the README's example runs, tables are those in results/."""

import csv
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from fitnets.commands import arm_names, commands_of
from fitnets.config import check
from fitnets.plan import plan
from fitnets.store import read_result
from tests.conftest import ROOT, SMALL, composed, go, one_in

README = (ROOT / "README.md").read_text()
DOCS = {file.name: file.read_text() for file in sorted((ROOT / "docs").glob("*.md"))}
RESULTS = (ROOT / "results" / "README.md").read_text()
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = BLOCK.findall(README)
COMMANDS = [
    line.partition(" #")[0].strip()
    for language, text in BLOCK.findall("".join([README, *DOCS.values()]))
    if language == "bash"
    for line in text.splitlines()
    if "python run.py" in line and "--config-dir" not in line
]
ROW = re.compile(r"\| (teacher|backprop|KD|hint)")


def section(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def titles() -> dict[str, str]:
    files = (ROOT / "conf" / "stage").glob("*.yaml")
    return {file.stem: yaml.safe_load(file.read_text()).get("title", "") for file in files}


def test_it_is_short_and_opens_with_the_two_commands() -> None:
    assert len(README.splitlines()) <= 130
    first = next(text for language, text in BLOCKS if language == "bash")
    assert [line.split()[:2] for line in first.splitlines()] == [["make", "run"], ["make", "test"]]


@pytest.mark.parametrize("command", one_in(8, COMMANDS))
def test_every_command_composes_and_passes_the_checks(command: str) -> None:
    words = [word for word in shlex.split(command)[2:] if word != "-m"]
    words = [word.replace("=DIR", f"={ROOT}").replace("=scores.npy", f"={ROOT}/README.md") for word in words]
    first_of_a_sweep = [re.sub(r"=([^\[\],]+),.*", r"=\1", word) for word in words]
    config = composed(*first_of_a_sweep)
    assert check(config.resolved, arm_names()) == []
    if "pairs" not in config["stage"]:  # those are found in the networks
        assert all(check(each.config.resolved) == [] for each in commands_of(config, print))


def test_every_make_target_named_exists() -> None:
    answer = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = set(re.findall(r"make ([a-z-]+)", answer.stdout))
    documents = README.replace("They need make and", "") + (ROOT / "CONTRIBUTING.md").read_text() + DOCS["speed.md"]
    assert set(re.findall(r"`?make ([a-z-]+)", documents)) <= listed
    assert {"help", "setup", "run", "check", "test", "test-all"} <= listed


def test_the_example_student_runs(importable: Path) -> None:
    """The blocks of "How to swap a part", as printed."""
    for _, text in BLOCKS:
        if named := re.match(r"# (my_\S+)\n", text):
            (importable / named[1]).parent.mkdir(parents=True, exist_ok=True)
            (importable / named[1]).write_text(text)
    command = next(text for language, text in BLOCKS if language == "bash" and "--config-dir" in text)
    assert "student=small" in command and "hint.student_layer=4" in command
    mine = yaml.safe_load((importable / "my_conf" / "student" / "small.yaml").read_text())
    small = [word for word in SMALL if not word.startswith("student")]
    config = composed("stage=fitnet", "hint.student_layer=4", *small, f"runs_dir={importable}/runs")
    config = config.changed({"student": mine})
    go(config)
    result = read_result(plan(config)[0], importable / "runs")
    assert result and result["hint"]["guided_layer"] == "4"


def test_the_tables_of_digits_are_those_in_results() -> None:
    """Every row, to the letter; and no other row is printed."""
    rows = {
        table.parent.name: {line for line in table.read_text().splitlines() if ROW.match(line)}
        for table in (ROOT / "results").glob("digits_*/table.md")
    }
    printed = {
        name: [line for line in text.splitlines() if ROW.match(line) and line.count("|") == 9]
        for name, text in (("README", README), ("docs", DOCS["results.md"]), ("results", RESULTS))
    }
    paper = rows["digits_paper_init"] | rows["digits_paper_init_50_labels"]
    assert set(printed["README"]) == rows["digits_50_labels"] and len(printed["README"]) == 4
    assert set(printed["docs"]) == rows["digits_50_labels"] | rows["digits_all_labels"] and len(printed["docs"]) == 8
    assert set(printed["results"]) == paper and len(printed["results"]) == 8


def test_the_table_of_splits_is_the_one_in_results() -> None:
    measured = {}
    for labels in ("all", "50"):
        name = {"all": "all_labels", "50": "50_labels"}[labels]
        files = [ROOT / "results" / f"digits_{name}" / "table.md"]
        files += [ROOT / "results" / "digits_splits" / f"{name}_split{split}.md" for split in (1, 2)]
        for split, file in enumerate(files):
            rows = [
                [cell.strip() for cell in line.split("|")] for line in file.read_text().splitlines() if ROW.match(line)
            ]
            accuracies, differences = [row[2] for row in rows], [row[4] for row in rows[2:]]
            measured[str(split), labels] = [*accuracies, *differences]
    printed = {}
    for line in section(DOCS["results.md"], "Digits, other splits").splitlines():
        if re.match(r"\| \d", line):
            split, labels, *cells = [cell.strip() for cell in line.split("|")[1:-1]]
            printed[split, labels] = cells
    assert printed == measured and len(measured) == 6


def test_the_short_table_of_the_papers_initial_weights() -> None:
    text = section(DOCS["results.md"], "The paper's initial weights")
    for name, column in (("digits_paper_init", 2), ("digits_paper_init_50_labels", 3)):
        for line in (ROOT / "results" / name / "table.md").read_text().splitlines():
            cells = [cell.strip() for cell in line.split("|")]
            if ROW.match(line) and "teacher" not in line:
                (row,) = [each.split("|") for each in text.splitlines() if each.startswith(f"| {cells[1]} |")]
                assert row[column].strip() == cells[2]


def test_the_mnist_tables_are_those_in_results() -> None:
    """Every arm's error in results/mnist.csv, in both pages: with its n and budget, and by recipe and arm."""
    lines = (ROOT / "results" / "mnist.csv").read_text().splitlines()
    short = section(DOCS["results.md"], "MNIST")
    columns = {"backprop": 3, "kd": 4, "fitnet": 5}
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        error = f"{row['error_mean']} ± {row['error_sd']}" if row["error_sd"] else row["error_mean"]
        cells = [row["recipe"], titles()[row["arm"]], error, row["n"], row["budget"], row["updates"]]
        assert "| " + " | ".join(cells) + " |" in RESULTS, cells
        if row["arm"] in columns:
            (found,) = [line.split("|") for line in short.splitlines() if line.startswith(f"| `{row['recipe']}`")]
            assert found[columns[row["arm"]]].strip() == error
            assert found[2].strip() == row["budget"].partition("/")[0]
        else:
            assert f"{error} % test error" in short


def test_the_curriculum_table_is_the_one_in_results() -> None:
    """Each cell, by score, pacing, share of wrong labels and updates."""
    measured = {}
    for line in (ROOT / "results" / "curriculum_digits.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 6 and cells[1] == "c_score":
            updates = cells[4].split()[0]
            measured[cells[2], cells[3].rstrip("%"), updates, cells[5]] = cells[6]
    header, _, *rows = [
        [cell.strip(" *") for cell in line.split("|")[1:-1]]
        for line in section(DOCS["results.md"], "Curriculum").splitlines()
        if line.startswith("|")
    ]
    assert len(rows) == 5
    for noise, condition, *cells in rows:
        pacing, updates = condition.rsplit(", ", 1)
        for order, cell in zip(header[2:], cells, strict=True):
            assert cell == measured[pacing, noise.rstrip(" %"), updates, order], (condition, order)


def test_the_speed_table_is_the_one_in_results() -> None:
    """Each ratio in results/benchmark_cpu.json stands in docs/speed.md, in its row and column."""
    names = {
        "kd_over_backprop": "a KD step over plain",
        "hint_over_guided": "a hint step over its guided",
        "kd_over_torchdistill": "a KD step over torch",
        "hint_over_torchdistill": "a hint step over torch",
        "loader_share": "time waiting",
        "framework_over_loop": "epoch over a hand",
        "sweep_over_parts": "sweep of 5",
        "curriculum_over_plain": "epoch with a curriculum",
    }
    columns = {"resnet56-resnet20": 3, "maxout_cifar-fitnet1": 4, "digits-thin_deep": 5, "": 5}
    ratios = json.loads((ROOT / "results" / "benchmark_cpu.json").read_text())["ratios"]
    assert len(ratios) == 27
    for name, value in ratios.items():
        ratio, of, threads = [*name.split("/"), "", "1t"][:3]
        (row,) = [line.split("|") for line in DOCS["speed.md"].splitlines() if line.startswith(f"| {names[ratio]}")]
        assert row[columns[of]].strip("* ").split(" / ")[int(threads[0]) - 1] == f"{value:.3f}", name
        assert ("*" in row[columns[of]]) == (value > float(row[2])), "what misses its aim is bold"


def test_links_and_pictures_exist() -> None:
    for folder, text in ((ROOT, README), *((ROOT / "docs", text) for text in DOCS.values())):
        for target in re.findall(r"\]\(([^)]+)\)", text):
            place, _, heading = target.partition("#")
            assert target.startswith("https://") or (folder / place).exists(), target
            if heading and not target.startswith("https://"):
                linked = (folder / place).read_text() if place else text
                known = {re.sub(r"[^\w\- ]", "", line[3:].lower()).replace(" ", "-") for line in linked.splitlines()}
                assert heading in known, target


def test_scripts_and_benchmarks_named_exist() -> None:
    documents = "".join([README, *DOCS.values(), (ROOT / "CONTRIBUTING.md").read_text()])
    named = set(re.findall(r"\b((?:scripts|benchmarks|fitnets|tests|conf)/[\w/]+\.(?:py|yaml))", documents))
    assert named and [name for name in named if not (ROOT / name).exists()] == []
