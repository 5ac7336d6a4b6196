"""Ctrl-C and SIGTERM end the whole command at once with one line; a full disk and others' folders are told in one."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fitnets import files
from fitnets.ending import Stopped, stoppable
from fitnets.files import StorageError
from fitnets.plan import plan
from fitnets.store import folder_of
from tests.conftest import ROOT, SMALL, composed, go, quick
from tests.typed import ENV, alive

LONG = ["stage=backprop", "epochs.hint=1", "epochs.kd=500", *SMALL[:3], "trainer=cpu", "trainer.threads=1"]


def started(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """A command in a group of its own, as a terminal starts it; it has begun to train."""
    command = [sys.executable, str(ROOT / "run.py"), *words]
    told: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=cwd, env=ENV, start_new_session=True, **told)
    end = time.monotonic() + 100
    while not list(cwd.glob("runs/*/metrics.csv")):
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("number", "code"), quick([(signal.SIGINT, 130), (signal.SIGTERM, 143)], lambda case: case[1] == 130)
)
def test_a_signal_ends_a_sweep_and_says_how_it_goes_on(tmp_path: Path, number: int, code: int) -> None:
    process = started("-m", "seed=0,1,2", *LONG, cwd=tmp_path)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in told
    assert told.count("--- job") == 1, "no other job may start"
    lines = [line for line in told.splitlines() if line.startswith("Stopped by")]
    assert len(lines) == 1 and "goes on where it was: python run.py -m seed=0,1,2" in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("group", [True, False])
def test_so_it_does_where_jobs_run_side_by_side(tmp_path: Path, group: bool) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["-m", "seed=0,1,2,3", *LONG, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    process = started(*words, cwd=tmp_path)
    os.killpg(process.pid, signal.SIGINT) if group else process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == (130 if group else 143) and "Traceback" not in told
    time.sleep(2)
    assert not alive(process.pid), "none is left but for a parent to see"


def test_a_second_signal_ends_the_process_where_it_is() -> None:
    code = (
        "import os, signal, time\nfrom fitnets.ending import stoppable\n"
        "with stoppable():\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)\n"
        "    finally:\n        os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)\n"
    )
    began = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 143
    assert time.monotonic() - began < 8


def test_what_was_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        with stoppable():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            with pytest.raises(Stopped) as stopped:
                signal.raise_signal(signal.SIGTERM)
        assert stopped.value.code == 143
    finally:
        signal.signal(signal.SIGHUP, before)


# --------------------------------------------------------------------------------------------- disks


OF_DISKS = [(errno.ENOSPC, "No space left"), (errno.EDQUOT, "quota"), (errno.EROFS, "Read-only"), (errno.EIO, "error")]


@pytest.mark.parametrize(("number", "words"), quick(OF_DISKS, lambda case: case[0] == errno.ENOSPC))
def test_what_cannot_be_written_is_one_line_and_the_same_command_goes_on(
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    """At every few of the writes of a command; what was finished before is intact."""
    config = small("stage=fitnet", "epochs.hint=1", "epochs.kd=1", "trainer.checkpoint_seconds=0")
    whole = files.os.fsync
    for last in (2, 9, 25, 60, 95):
        count = iter(range(1000))

        def failing(at: int, count: Any = count, last: int = last) -> None:
            if next(count) >= last:
                raise OSError(number, os.strerror(number))
            whole(at)

        with monkeypatch.context() as patched:
            patched.setattr(files.os, "fsync", failing)
            with pytest.raises(StorageError, match=f"cannot be written: .*{words}"):
                go(config)
        assert not list(tmp_path.rglob("*.partial*")), "nothing is left of it"
    go(config)
    run = plan(config)[-1]
    through = config.changed({"runs_dir": str(tmp_path / "through")})
    go(through)
    for name in ("student.safetensors", "metrics.csv"):
        ours, theirs = (
            folder_of(run, Path(runs_dir)) / name for runs_dir in (config["runs_dir"], tmp_path / "through")
        )
        assert ours.read_bytes() == theirs.read_bytes()


def limited(size: int) -> Any:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1000, 30_000])
def test_a_limit_on_the_size_of_files_is_one_line(tmp_path: Path, size: int) -> None:
    """A real limit of the system, which would kill a process that writes beyond it through memory."""
    command = [sys.executable, str(ROOT / "run.py"), "stage=fitnet", *SMALL, "epochs.hint=1", "epochs.kd=1"]
    done = subprocess.run(command, cwd=tmp_path, env=ENV, capture_output=True, text=True, preexec_fn=limited(size))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "cannot be written" in line]
    assert "File too large; make space. What is finished is kept; this goes on where it was: python run.py" in line


def test_a_runs_dir_that_is_no_folder_is_refused_before_anything(tmp_path: Path, capsys) -> None:
    from fitnets.config import ConfigError

    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/runs"):
        with pytest.raises(ConfigError, match=r"runs_dir is .*type runs_dir=FOLDER"):
            go(composed(*SMALL, "stage=teacher", f"runs_dir={tmp_path}/{place}"))
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_done_is_read_where_nothing_may_be_written(compared, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A colleague's folder: no lock, no version, nothing is written."""

    def never(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    config, _runs_dir = compared
    monkeypatch.setattr(files.os, "replace", never)
    monkeypatch.setattr(files, "FileLock", never)
    monkeypatch.setattr(Path, "mkdir", never)
    go(config.at_stage("teacher"))
    assert "Nothing to train" in capsys.readouterr().out
