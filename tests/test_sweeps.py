"""A sweep ends with a table whatever became of its jobs; the choice is made on validation."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fitnets.check import ConfigError, check_config
from fitnets.report.sweep import Point, figure_of, finish, rows, varied, write_report
from fitnets.runs import plan
from fitnets.sweep import as_job, described, read_jobs, refusal, swept, write
from tests.conftest import ROOT, SMALL, composed
from tests.test_commands import ENV, command, typed

BROKEN = """
import torch

class Breaks(torch.optim.AdamW):
    def step(self, closure=None):
        raise OSError("disk full")
"""


@pytest.fixture(scope="module")
def swept_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """A sweep of eight jobs, typed without -m: two are done, two break while they train, four are refused."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "broken.py").write_text(BROKEN)
    words = ["sweep=temperature", "stage=kd", "temperature=0,2", "seed=0,1", *SMALL]
    words.append("optimizer._target_=torch.optim.AdamW,broken.Breaks")
    env = ENV | {"PYTHONPATH": str(folder)}
    done = subprocess.run(command(*words), cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    return folder, done


def report_of(folder: Path) -> Path:
    return next((folder / "runs" / "reports").glob("sweep-*"))


def test_failed_jobs_are_named_with_their_reason_and_the_exit_code_says_so(swept_once) -> None:
    _, done = swept_once
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    end = done.stdout.partition("2 of 8 jobs done")[2].splitlines()
    failed = [line for line in end if line.startswith("FAILED")]
    refused = [line for line in end if line.startswith("REFUSED")]
    assert len(failed) == 2 and len(refused) == 4
    for line in failed:
        assert "optimizer._target_=broken.Breaks" in line and "OSError: disk full" in line and "temperature=2" in line
        path = line.partition("traceback: ")[2].rstrip(")")
        assert "in step" in (swept_once[0] / path).read_text()
    assert all("temperature is 0; it must be a number > 0" in line for line in refused)


def test_the_table_is_what_is_on_disk_with_test_for_the_chosen_row_only(swept_once) -> None:
    folder, done = swept_once
    results = [json.loads(path.read_text()) for path in (folder / "runs").glob("kd-*/result.json")]
    assert sorted(result["seed"] for result in results) == [0, 1]
    with open(report_of(folder) / "table.csv") as file:
        (row,) = csv.DictReader(file)
    validation, test = ([r[part]["accuracy"] for r in results] for part in ("validation", "test"))
    assert (row["temperature"], row["optimizer._target_"], row["n"]) == ("2", "torch.optim.AdamW", "2")
    assert float(row["validation"]) == mean(validation) and float(row["validation_sd"]) == stdev(validation)
    assert float(row["test"]) == mean(test) and float(row["test_sd"]) == stdev(test)
    text = (report_of(folder) / "table.md").read_text()
    assert "6 of 8 jobs failed and are not in it" in text and "sweep=temperature" in text and "chosen" in text
    assert (report_of(folder) / "plot.png").stat().st_size > 5000
    for result in results:  # no job tells its test accuracy
        assert f"test accuracy        {result['test_accuracy']:.2%}" not in done.stdout


def test_stages_that_jobs_share_run_once(swept_once) -> None:
    folder, done = swept_once
    assert len(list((folder / "runs").glob("teacher-*/result.json"))) == 1
    assert done.stdout.count("teacher wide_shallow seed 0: val accuracy") == 1


def point(at: str, seed: int, accuracy: float, nll: float = 1.0) -> Point:
    validation = {"accuracy": accuracy, "nll": nll}
    result = {"validation": validation, "test_accuracy": 1 - accuracy, "params": 1, "multiplications": 1, "seed": seed}
    return Point((at,), Path(f"{at}-{seed}"), result, 1.0)


def chosen(points: list[Point]) -> str:
    (best,) = [row for row in rows(points, figure_of(points)) if row.chosen]
    return best.at[0]


def test_the_best_on_validation_is_chosen_whatever_test_says() -> None:
    points = [point("1", 0, 0.7), point("2", 0, 0.9), point("3", 0, 0.8)]  # the lower validation, the higher test
    table = rows(points, "accuracy")
    assert chosen(points) == "2" and [row.test is None for row in table] == [True, False, True]
    assert [row.at[0] for row in table] == ["1", "2", "3"]


def test_ties_go_to_the_lower_nll_and_fewer_seeds_cannot_win() -> None:
    assert chosen([point("1", 0, 0.9, 0.5), point("2", 0, 0.9, 0.4)]) == "2"
    assert chosen([point("1", 0, 0.8), point("1", 1, 0.8), point("2", 0, 0.99)]) == "1"


def test_which_keys_make_rows() -> None:
    jobs = [["temperature=1", "seed=0", "+a.b=1"], ["temperature=2", "seed=1", "+a.b=1"]]
    assert swept(jobs) == ["temperature", "seed"]
    run = {"stage": "kd", "hint": None}
    of = [{"overrides": words, "runs": [run | {"arm": "kd"}]} for words in jobs]
    assert varied(of) == ["temperature"], "seeds are averaged over"
    of[0]["runs"].append({"stage": "backprop", "arm": "backprop", "hint": None})
    assert varied(of) == ["temperature", "arm"], "a comparison swept over has a row for each arm"


def test_a_sweep_of_comparisons_has_rows_for_its_arms(compared, tmp_path: Path, capsys) -> None:
    cfg, runs_dir = compared
    jobs = [["temperature=3"], ["temperature=4"]]
    write(tmp_path / "sweep.json", {"name": "compare-x", "words": [], "jobs": jobs, "runs_dir": str(tmp_path)})
    with as_job(tmp_path / "0", 0, ["temperature=3"]) as job:
        job.names(plan(cfg), runs_dir)
    with as_job(tmp_path / "1", 1, ["temperature=4"]):
        raise MemoryError
    assert finish(tmp_path) == 1
    with open(tmp_path / "reports" / "sweep-compare-x" / "table.csv") as file:
        table = list(csv.DictReader(file))
    assert [row["arm"] for row in table] == ["backprop", "KD", "hint then KD"] and {row["n"] for row in table} == {"2"}


def test_a_job_leaves_its_end_on_disk(tmp_path: Path) -> None:
    jobs = [[f"seed={seed}"] for seed in range(4)]
    write(tmp_path / "sweep.json", {"jobs": jobs})
    with as_job(tmp_path / "0", 0, jobs[0]):
        pass
    with as_job(tmp_path / "1", 1, jobs[1]):
        raise ConfigError(["a is 1", "b is 2"])
    with as_job(tmp_path / "2", 2, jobs[2]):
        sys.exit("gone")
    told = [(job["status"], job.get("reason")) for job in read_jobs(tmp_path)]
    assert told == [
        ("done", None),
        ("refused", "a is 1; b is 2"),
        ("failed", "SystemExit: gone"),
        ("failed", "it was never started"),
    ]


def test_a_job_that_was_killed_is_a_failure(tmp_path: Path) -> None:
    write(tmp_path / "sweep.json", {"jobs": [["seed=0"]]})
    with pytest.raises(KeyboardInterrupt), as_job(tmp_path / "0", 0, ["seed=0"]):
        raise KeyboardInterrupt
    (job,) = read_jobs(tmp_path)
    assert (job["status"], job["reason"]) == ("failed", "it was stopped before it ended")


def test_described_tells_the_layers_of_a_kd_stage_after_its_hint(compared) -> None:
    cfg, runs_dir = compared
    told = [described(run, runs_dir) for run in plan(cfg)]
    assert {t["stage"]: t["hint"] for t in told if t["arm"] == "fitnet"}["kd"] == ["middle", "middle"]


@pytest.mark.parametrize("name", [path.stem for path in (ROOT / "conf" / "sweep").glob("*.yaml")])
def test_every_sweep_file_sweeps_what_composes(name: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", [f"sweep={name}"], return_hydra_config=True)
    assert cfg.hydra.mode.name == "MULTIRUN" and cfg.stage.name == "fitnet"
    for key, values in cfg.hydra.sweeper.params.items():
        for value in values.split(","):
            composed(f"{key}={value}")


def test_several_devices_and_a_sweep_are_refused_in_one_line(tmp_path: Path) -> None:
    done = typed("-m", "stage=fitnet", "trainer=ddp", "temperature=1,2", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "trainer.devices is 2: type trainer=auto" in done.stderr and not (tmp_path / "runs").exists()


def test_a_launcher_that_is_not_installed_says_what_to_install() -> None:
    target = "hydra_plugins.hydra_nowhere_launcher.launcher.NowhereLauncher"
    told = refusal(OmegaConf.create({"trainer": {"devices": 1}, "hydra": {"launcher": {"_target_": target}}}))
    assert told is not None and "hydra_nowhere_launcher" in told
    fine = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    assert refusal(OmegaConf.create({"trainer": {"devices": 1}, "hydra": {"launcher": {"_target_": fine}}})) is None


@pytest.mark.parametrize("keys", [["temperature"], ["hint"], ["a", "b"], ["a", "b", "c"]])
def test_every_kind_of_plot_is_drawn(tmp_path: Path, keys: list[str]) -> None:
    from rich.console import Console

    values = {"temperature": ["1", "2", "8"], "hint": ["early", "late"], "a": ["x", "y"], "b": ["1", "10"], "c": ["z"]}
    grid: list[tuple[str, ...]] = [()]
    for key in keys:
        grid = [(*at, value) for at in grid for value in values[key]]
    made = [
        Point(at, Path(f"{at}{seed}"), point("", seed, 0.5 + 0.05 * i + 0.01 * seed).result, 1.0)
        for i, at in enumerate(grid)
        for seed in (0, 1)
    ]
    table = write_report(tmp_path, made, keys, "title", "command", Console(quiet=True))
    assert len(table) == len(grid) and (tmp_path / "plot.png").stat().st_size > 5000


@pytest.mark.slow
def test_a_killed_sweep_started_again_goes_on(tmp_path: Path) -> None:
    words = ["-m", "stage=fitnet", "temperature=1,2,4", "seed=0,1", *SMALL]
    process = subprocess.Popen(command(*words), cwd=tmp_path, env=ENV, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "runs").glob("kd-*/result.json"))) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/result.json")}
    again = typed(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "6 of 6 jobs done" in again.stdout
    assert all(path.stat().st_mtime_ns == when for path, when in before.items()), "what was done is reused"
    assert len(list((tmp_path / "runs" / "reports").iterdir())) == 1


DOCUMENTED = [
    line.partition(" #")[0].strip()
    for line in (ROOT / "docs" / "sweeps.md").read_text().splitlines()
    if line.startswith("python run.py")
]


@pytest.mark.parametrize("line", DOCUMENTED)
@pytest.mark.filterwarnings(r"ignore:\s*'hydra/launcher")
def test_every_documented_command_composes_and_passes_the_checks(line: str) -> None:
    words = [word for word in shlex.split(line)[2:] if word != "-m"]
    firsts = [word if "[" in word else re.sub(r"=([^,]+),.*", r"=\1", word) for word in words]
    assert check_config(composed(*firsts)) == []
