"""A sweep ends with a table whatever became of its jobs; the choice is made on validation."""

import csv
import json
import re
import shlex
import subprocess
from pathlib import Path
from statistics import mean, stdev

import pytest
from omegaconf import OmegaConf

from fitnets.commands import arm_names, commands_of
from fitnets.config import ConfigError, check
from fitnets.ending import Stopped
from fitnets.files import as_json, write
from fitnets.plan import plan
from fitnets.report.sweep import finish, read_jobs, swept, varied
from fitnets.sweep import as_job, described, refusal
from tests.conftest import ROOT, SMALL, composed
from tests.test_launchers import with_hydra
from tests.typed import ENDS_ITS_PROCESS, ENV, command, each_typed, typed

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


def test_which_keys_make_rows() -> None:
    jobs = [["temperature=1", "seed=0", "+a.b=1"], ["temperature=2", "seed=1", "+a.b=1"]]
    assert swept(jobs) == ["temperature", "seed"]
    of = [{"overrides": words, "runs": [{"at": {}}]} for words in jobs]
    assert varied(of) == ["temperature"], "seeds are averaged over"
    of[0]["runs"] = [{"at": {"arm": "KD"}}, {"at": {"arm": "DKD"}}]
    assert varied(of) == ["temperature", "arm"], "a comparison swept over has a row for each arm"
    of[0]["runs"] = [{"at": {"arm": "KD"}}, {"at": {"arm": "KD"}}]
    assert varied(of) == ["temperature"], "where the job has several"


def test_a_sweep_of_comparisons_has_rows_for_its_arms(compared, tmp_path: Path, capsys) -> None:
    cfg, runs_dir = compared
    jobs = [["temperature=3"], ["temperature=4"]]
    write(tmp_path / "sweep.json", as_json({"name": "compare-x", "words": [], "jobs": jobs, "runs_dir": str(tmp_path)}))
    with as_job(tmp_path / "0", 0, ["temperature=3"]) as job:
        commands = commands_of(cfg, print)
        job.name_runs(commands, [plan(command.config, command.arm) for command in commands], runs_dir)
    with as_job(tmp_path / "1", 1, ["temperature=4"]):
        raise MemoryError
    assert finish(tmp_path) == 1
    with open(tmp_path / "reports" / "sweep-compare-x" / "table.csv") as file:
        table = list(csv.DictReader(file))
    assert [row["arm"] for row in table] == ["backprop", "KD", "hint then KD"] and {row["n"] for row in table} == {"2"}


def test_a_job_leaves_its_end_on_disk(tmp_path: Path) -> None:
    jobs = [[f"seed={seed}"] for seed in range(4)]
    write(tmp_path / "sweep.json", as_json({"jobs": jobs}))
    with as_job(tmp_path / "0", 0, jobs[0]):
        pass
    with as_job(tmp_path / "1", 1, jobs[1]):
        raise ConfigError(["a is 1", "b is 2"])
    with as_job(tmp_path / "2", 2, jobs[2]):
        raise MemoryError("gone")
    ends = [(job["status"], job.get("reason")) for job in read_jobs(tmp_path)]
    assert ends == [
        ("done", None),
        ("refused", "a is 1; b is 2"),
        ("failed", "MemoryError: gone"),
        ("failed", "it was never started"),
    ]


def test_where_all_that_failed_was_refused_the_exit_code_says_so(tmp_path: Path, capsys) -> None:
    jobs = [[f"seed={seed}"] for seed in range(2)]
    write(tmp_path / "sweep.json", as_json({"name": "x", "words": [], "jobs": jobs, "runs_dir": str(tmp_path)}))
    with as_job(tmp_path / "0", 0, jobs[0]):
        pass
    with as_job(tmp_path / "1", 1, jobs[1]):
        raise ConfigError(["a is 1"])
    assert finish(tmp_path) == 2
    assert "1 of 2 jobs done" in (out := capsys.readouterr().out) and "REFUSED job 2 seed=1: a is 1" in out


def test_a_job_that_was_killed_is_a_failure(tmp_path: Path) -> None:
    write(tmp_path / "sweep.json", as_json({"jobs": [["seed=0"]]}))
    for end in (KeyboardInterrupt(), SystemExit(-1), Stopped("Stopped by SIGTERM", 143)):  # -1: submitit's, to requeue
        with pytest.raises(type(end)), as_job(tmp_path / "0", 0, ["seed=0"]):
            raise end
    (job,) = read_jobs(tmp_path)
    assert (job["status"], job["reason"]) == ("failed", "it was stopped before it ended")


def test_a_job_names_the_last_run_of_a_command_and_what_it_started_from(compared) -> None:
    cfg, runs_dir = compared
    after_hint = next(command for command in commands_of(cfg, print) if command.arm.name == "fitnet")
    runs = plan(after_hint.config, after_hint.arm)
    found = described(after_hint, runs[-1], runs_dir)
    assert found["at"] == {"arm": "hint then KD"} and found["folder"] == f"{runs_dir}/{runs[-1].name}"
    assert {Path(folder).name.partition("-")[0] for folder in found["before"]} == {"teacher", "hint"}


@pytest.mark.parametrize("name", [path.stem for path in (ROOT / "conf" / "sweep").glob("*.yaml")])
def test_every_sweep_file_sweeps_what_composes(name: str) -> None:
    cfg = with_hydra(f"sweep={name}")
    assert cfg.hydra.mode.name == "MULTIRUN" and cfg.stage.name == "fitnet"
    for key, values in cfg.hydra.sweeper.params.items():
        for value in values.split(","):
            composed(f"{key}={value}")


def test_several_devices_and_a_sweep_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    words = ["-m", "stage=fitnet", "trainer=ddp", "temperature=1,2"]
    (done,) = each_typed([words], tmp_path / "here", tmp_path / "answers")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "trainer.devices is 2: type trainer=auto" in done.stderr and not list((tmp_path / "here").iterdir())


def test_a_launcher_that_is_not_installed_says_what_to_install() -> None:
    target = "hydra_plugins.hydra_nowhere_launcher.launcher.NowhereLauncher"
    problem = refusal(OmegaConf.create({"trainer": {"devices": 1}, "hydra": {"launcher": {"_target_": target}}}))
    assert problem is not None and "hydra_nowhere_launcher" in problem
    fine = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    assert refusal(OmegaConf.create({"trainer": {"devices": 1}, "hydra": {"launcher": {"_target_": fine}}})) is None


@pytest.mark.slow
def test_a_killed_sweep_started_again_goes_on(tmp_path: Path) -> None:
    """Killed in its third job: a hint stage has 36 updates, KD after it 54."""
    (tmp_path / "mine.py").write_text(ENDS_ITS_PROCESS)
    words = ["-m", "stage=fitnet", "temperature=1,2,4", "seed=0,1", *SMALL, "optimizer._target_=mine.Ends"]
    killed = typed(*words, cwd=tmp_path, PYTHONPATH=str(tmp_path), END_BEFORE="190")
    assert killed.returncode == -9 and len(list((tmp_path / "runs").glob("kd-*/result.json"))) == 2
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/result.json")}
    again = typed(*words, cwd=tmp_path, PYTHONPATH=str(tmp_path))
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
    assert check(composed(*firsts).resolved, arm_names()) == []
