"""Launchers: our settings win over the plugins' own, jobs share the machine, and a sweep ends as with the basic one."""

import csv
from pathlib import Path

import hydra
import pytest
import yaml
from omegaconf import DictConfig

from fitnets.commands import loader
from fitnets.config import ConfigError
from fitnets.sweep import EXTRAS, ONE_PROCESS, shares, with_share
from fitnets.training.engine import devices_of
from tests.conftest import ROOT, SMALL, composed
from tests.typed import typed

LAUNCHERS = sorted(path.stem for path in (ROOT / "conf" / "hydra" / "launcher").glob("*.yaml"))


def with_hydra(word: str) -> DictConfig:
    """The config of a command, with Hydra's own part of it."""
    loader()
    return hydra.compose("config", [word], return_hydra_config=True)


@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.filterwarnings(r"ignore:\s*'hydra/launcher")
def test_our_settings_are_the_ones_that_count(name: str) -> None:
    ours = yaml.safe_load((ROOT / "conf" / "hydra" / "launcher" / f"{name}.yaml").read_text())
    launcher = with_hydra(f"hydra/launcher={name}").hydra.launcher
    assert set(launcher) == set(ours) and launcher._target_ == ours["_target_"]
    assert launcher._target_.split(".")[1] in EXTRAS
    plain = {key: value for key, value in ours.items() if "${" not in str(value)}
    assert {key: str(launcher[key]) for key in plain} == {key: str(value) for key, value in plain.items()}


def test_jobs_side_by_side_share_the_cores_and_take_turns_on_the_gpus() -> None:
    joblib = {"_target_": "x.JoblibLauncher", "n_jobs": 4}
    assert shares(joblib, 5, cores=16) == {"threads": 4, "gpu": 5}
    assert shares(joblib | {"n_jobs": -1}, 0, cores=16)["threads"] == 1
    assert shares(joblib | {"n_jobs": 32}, 0, cores=16)["threads"] == 1
    assert shares({"_target_": "x.SlurmLauncher", "cpus_per_task": 6}, 1, cores=16) == {"threads": 6, "gpu": 1}
    assert shares({"_target_": "x.Ray", "ray": {"remote": {"num_cpus": 2}}}, 0, cores=16)["threads"] == 2
    assert shares({"_target_": ONE_PROCESS}, 3, cores=16) == {"threads": None, "gpu": 0}


def test_what_is_typed_wins_over_the_share() -> None:
    launcher = {"_target_": "x.JoblibLauncher", "n_jobs": 1}
    cfg = with_share(composed("trainer.threads=3", "trainer.gpu=1"), launcher, 7)
    assert (cfg["trainer"]["threads"], cfg["trainer"]["gpu"]) == (3, 1)
    assert with_share(composed(), launcher, 7)["trainer"]["gpu"] == 7
    with pytest.raises(ConfigError, match="one device"):
        with_share(composed("trainer=ddp"), launcher, 0)


@pytest.mark.parametrize(("turn", "gpus", "chosen"), [(None, 4, [0]), (1, 4, [1]), (5, 4, [1]), (3, 1, [0]), (2, 0, 1)])
def test_which_gpu_a_job_gets(turn, gpus, chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert devices_of({"accelerator": "auto", "gpu": turn, "devices": 1}) == chosen
    assert devices_of({"accelerator": "cpu", "gpu": turn, "devices": 1}) == 1
    assert devices_of({"accelerator": "auto", "gpu": turn, "devices": 2}) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher", [["joblib", "hydra.launcher.n_jobs=2"], ["submitit_local"]], ids=lambda words: words[0]
)
def test_jobs_in_processes_of_their_own_share_stages_and_end_in_the_same_table(launcher, tmp_path: Path) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher[0].partition('_')[0]}_launcher")
    words = ["-m", "stage=fitnet", "temperature=0,1,2", *SMALL]
    done = typed(*words, f"hydra/launcher={launcher[0]}", *launcher[1:], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "2 of 3 jobs done" in done.stdout and "REFUSED job 1 temperature=0: temperature is 0" in done.stdout
    stages = [path.parent.name.split("-")[0] for path in (tmp_path / "runs").glob("*/result.json")]
    assert sorted(stages) == ["hint", "kd", "kd", "teacher"]
    (table,) = (tmp_path / "runs" / "reports").glob("sweep-*/table.csv")
    with open(table) as file:
        assert [row["temperature"] for row in csv.DictReader(file)] == ["1", "2"]
    config = yaml.safe_load(next((tmp_path / "runs").glob("kd-*/config.yaml")).read_text())
    assert config["trainer"]["threads"] == 1 or launcher[0] == "joblib"
