"""Names with any letters, a terminal that knows few, a pipe that closes, another working folder, variables of W&B's."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import SMALL
from tests.typed import ENV, command, typed

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "20"}
TINY = [*SMALL, "epochs.kd=1", "epochs.hint=1", "epochs.teacher=1", "updates_per_epoch=2", "trainer.threads=1"]
ODD = "é ü, a=b's"


@pytest.mark.slow
@pytest.mark.parametrize("output", ["ascii", ""])
def test_odd_names_where_the_locale_knows_no_accents(tmp_path: Path, output: str) -> None:
    (tmp_path / ODD / "student").mkdir(parents=True)
    net = "name: é  # ±\nnet: {_target_: nets.Naïf}\n"
    (tmp_path / ODD / "student" / "mine.yaml").write_text(net, encoding="utf-8")
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\nclass Naïf(nn.Sequential):\n    def __init__(self, input_shape, num_classes):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))\n",
        encoding="utf-8",
    )
    small = [word for word in TINY if not word.startswith(("student", "teacher", "epochs.teacher"))]
    words = ["--config-dir", ODD, "stage=backprop", "student=mine", f'runs_dir="{ODD}/runs"', *small]
    done = typed(*words, cwd=tmp_path, PYTHONPATH=str(tmp_path), **ASCII, PYTHONIOENCODING=output)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / ODD / "runs").glob("backprop-é-*")
    assert (folder / "result.json").is_file()
    assert yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["student"]["name"] == "é"
    again = typed(*words, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert "Nothing to train" in again.stdout


@pytest.mark.slow
def test_a_pipe_that_closes_stops_no_training(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("stage=backprop", *TINY), cwd=tmp_path, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as started:
        assert started.stdout is not None and started.stderr is not None
        started.stdout.readline()
        started.stdout.close()
        said = started.stderr.read()
    assert started.returncode == 0 and said == b"", said
    assert list((tmp_path / "runs").glob("backprop-*/result.json"))


@pytest.mark.slow
def test_another_working_folder(tmp_path: Path) -> None:
    refused = typed("-m", "hydra.job.chdir=true", "stage=kd", "seed=0,1", cwd=tmp_path)
    assert refused.returncode == 2 and "leave it out" in refused.stderr and not list(tmp_path.iterdir())
    alone = typed("hydra.job.chdir=true", "stage=kd", "dry_run=true", cwd=tmp_path)
    assert alone.returncode == 0 and "in runs/" in alone.stdout


@pytest.mark.slow
def test_variables_of_another_run_make_no_stage_write_there(tmp_path: Path) -> None:
    outside = {"WANDB_RUN_ID": "outside", "WANDB_SWEEP_ID": "theirs", "WANDB_RESUME": "must", "WANDB_MODE": "offline"}
    done = typed("stage=kd", "logger=wandb", *TINY, cwd=tmp_path, **outside)
    assert done.returncode == 0, done.stderr
    ids = [path.read_text(encoding="utf-8").strip() for path in (tmp_path / "runs").glob("*/wandb_id")]
    made = [path.name.rpartition("run-")[2] for path in (tmp_path / "runs").glob("*/wandb/offline-run-*")]
    assert len(set(ids)) == 2 and sorted(name.partition("-")[2] for name in made) == sorted(ids), made
    assert done.stdout.count("WANDB_RUN_ID names one run for all") == 1
