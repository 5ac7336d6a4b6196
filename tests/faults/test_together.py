"""Many processes on one store train each stage once; several that train together end together."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fitnets.files import locked
from fitnets.plan import plan
from fitnets.store import folder_of, read_result
from tests.conftest import ROOT, SMALL, go
from tests.typed import ENV, alive

SHORT = [*SMALL[:3], "epochs.teacher=3", "epochs.hint=1", "epochs.kd=2", "trainer=cpu", "trainer.threads=1"]


@pytest.mark.slow
def test_eight_processes_with_the_same_and_different_plans_train_each_stage_once(tmp_path: Path) -> None:
    plans = [["stage=fitnet"], ["stage=fitnet", "temperature=2"], ["stage=kd"], ["stage=hint"]] * 2
    command = [sys.executable, str(ROOT / "run.py"), *SHORT]
    told: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = [subprocess.Popen([*command, *words], cwd=tmp_path, env=ENV, **told) for words in plans]
    outs = [process.communicate(timeout=500)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 8, outs
    finished = sorted(path.parent.name.split("-")[0] for path in tmp_path.glob("runs/*/result.json"))
    assert Counter(finished) == {"teacher": 1, "hint": 1, "kd": 3}
    trained = [line for out in outs for line in out.splitlines() if line.startswith("[") and ", " in line]
    ends = Counter(
        line.partition("] ")[2].partition(":")[0] for line in trained if line.endswith(" s") or "NOTHING" in line
    )
    assert sum(ends.values()) == 5, f"each was trained by one process: {ends}"


def test_who_waits_is_told_for_whom_and_a_dead_holder_s_lock_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom fitnets.files import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    lock = tmp_path / "locks" / "run.lock"
    holder = subprocess.Popen([sys.executable, "-c", code, lock], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    told: list[str] = []

    def waiting(text: str) -> None:
        told.append(text)
        holder.kill()  # and its machine is gone

    with locked(lock, waiting) as waited:
        assert waited
    assert told[0].startswith(f"process {holder.pid} on ") and f"remove {lock}" in told[0]
    with locked(lock, waiting) as waited:
        assert not waited and len(told) == 1
    assert lock.stat().st_mode & 0o666 == 0o666, "a colleague may hold it next"


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_others_with_the_reason(tmp_path: Path, rank: int) -> None:
    words = ["stage=backprop", "epochs.hint=1", "epochs.kd=2000", *SMALL[:3], "trainer=ddp", "trainer.accelerator=cpu"]
    command = [sys.executable, str(ROOT / "run.py"), *words]
    told: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, env=ENV, start_new_session=True, **told)
    while not list(tmp_path.glob("runs/*/metrics.csv")):
        assert process.poll() is None
        time.sleep(0.1)
    found = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "spawn_main"], capture_output=True, text=True)
    os.kill(int(found.stdout.split()[rank]), signal.SIGKILL)
    began = time.monotonic()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and time.monotonic() - began < 60 and "Traceback" not in out
    assert f"process {rank + 1} of 2 was ended by SIGKILL" in out
    assert not alive(process.pid), "none is left but for a parent to see"


def test_a_logger_that_fails_in_the_middle_stops_no_training(small, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from fitnets.tracking.loggers import TensorBoard

    def full(self: Any, row: Any) -> None:
        if row["epoch"] == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorBoard, "row", full)
    config = small("stage=teacher", "logger=[csv,tensorboard]", "epochs.teacher=3")
    go(config)
    (run,) = plan(config)
    result = read_result(run, Path(config["runs_dir"]))
    assert result is not None and result["epochs"] == 3
    said = capsys.readouterr().out
    assert said.count("TensorBoard failed (OSError: [Errno 28] No space left on device); the training goes on") == 1
    assert len((folder_of(run, Path(config["runs_dir"])) / "metrics.csv").read_text().splitlines()) == 4


@pytest.mark.slow
@pytest.mark.parametrize("home", ["file", "file/below"])
def test_a_home_that_cannot_be_written_stops_no_training(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").write_text("")
    env = ENV | {"HOME": str(tmp_path / home), "WANDB_MODE": "offline", "XDG_CONFIG_HOME": str(tmp_path / home)}
    command = [sys.executable, str(ROOT / "run.py"), "stage=teacher", *SHORT, "logger=[csv,wandb]"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert list(tmp_path.glob("runs/teacher-*/result.json"))


OUTER = {
    "srun": {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_PROCID": "3"},
    "odd": {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4(x2)", "SLURM_PROCID": "x", "SLURM_JOB_NODELIST": "node[1-2]"},
    "torchrun": {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555"},
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", OUTER)
def test_a_launcher_s_variables_do_not_concern_one_device(tmp_path: Path, launcher: str) -> None:
    command = [sys.executable, str(ROOT / "run.py"), "stage=teacher", *SHORT, "updates_per_epoch=2"]
    done = subprocess.run(command, cwd=tmp_path, env=ENV | OUTER[launcher], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/teacher-*/result.json"))
