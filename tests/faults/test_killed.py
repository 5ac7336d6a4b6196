"""A command killed anywhere and typed again ends as one that ran through: bit-equal weights, no doubled row."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fitnets import files
from tests.conftest import ROOT, SMALL, go
from tests.trained import contents
from tests.typed import ENV, typed

COMMANDS = {
    "teacher, hint and KD": ["stage=fitnet", "epochs.teacher=8", "epochs.hint=8", "epochs.kd=8"],
    "a curriculum": ["stage=fitnet", "curriculum=self_paced", "curriculum.score.every=7", "epochs.kd=8"],
    "a sweep": ["-m", "stage=fitnet", "temperature=2,3", "epochs.kd=6"],
}
MOMENTS = 10  # of each command


class Killed(BaseException):
    """What a kill is to the code: nothing runs after it but what the system does."""


def writes(patched: pytest.MonkeyPatch, end: int) -> list[str]:
    """Count the system's calls by which a file gets its content and its name; at number `end` the process is killed."""
    seen: list[str] = []

    def counted(name: str, whole: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(name)
            if len(seen) == end:
                raise Killed
            return whole(*args, **kwargs)

        return call

    for name in ("fsync", "replace"):
        patched.setattr(files.os, name, counted(name, getattr(os, name)))
    patched.setattr(Path, "unlink", counted("unlink", Path.unlink))
    return seen


@pytest.mark.parametrize("part", [pytest.param(part, marks=pytest.mark.slow if part else ()) for part in range(3)])
def test_killed_at_any_write(small, tmp_path: Path, part: int) -> None:
    """In one process: the writing of every file is stopped before each of its steps, again and again to the end."""
    config = small("stage=fitnet", "epochs.teacher=1", "epochs.hint=1", "epochs.kd=1", "trainer.checkpoint_seconds=0")
    config = config.changed({"updates_per_epoch": 3})
    with pytest.MonkeyPatch.context() as patched:
        seen = writes(patched, 0)
        go(config.changed({"runs_dir": str(tmp_path / "through")}))
    moments = range(1 + part, len(seen) + 1, 48 if part == 0 else 15)
    assert len(seen) > 100 and len(moments) > 2
    for end in moments:
        runs_dir = tmp_path / f"killed_at_{end}"
        with pytest.MonkeyPatch.context() as patched:
            writes(patched, end)
            with pytest.raises(Killed):
                go(config.changed({"runs_dir": str(runs_dir)}))
        go(config.changed({"runs_dir": str(runs_dir)}))
        assert contents(runs_dir) == contents(tmp_path / "through"), f"killed at {seen[end - 1]} {end}"
        assert not list(runs_dir.rglob(".*.partial*")) and not (runs_dir / ".set_aside").exists()


def times(command: list[str], cwd: Path) -> Iterator[float]:
    """Seconds from a command's start, at random, in which something is left to do: drawn anew for each start."""
    chance = random.Random(" ".join(command))
    for _ in range(MOMENTS):
        yield chance.uniform(0.5, 12.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_random_moments(tmp_path: Path, name: str) -> None:
    """A kill -9 of the whole group, ten moments a command, each start going on where the one before was killed."""
    words = [*COMMANDS[name], *SMALL[:3], "trainer=cpu", "trainer.threads=1", "trainer.checkpoint_seconds=0"]
    (tmp_path / "through").mkdir()
    through = typed(*words, cwd=tmp_path / "through")
    assert through.returncode == 0, through.stderr
    command, killed = [sys.executable, str(ROOT / "run.py"), *words], 0
    for seconds in times(words, tmp_path):
        process = subprocess.Popen(command, cwd=tmp_path, env=ENV, start_new_session=True, stdout=subprocess.DEVNULL)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
        time.sleep(0.1)
        if process.returncode == 0:  # it came to its end: the next begins anew
            assert contents(tmp_path / "runs") == contents(tmp_path / "through" / "runs")
            (tmp_path / "runs").rename(tmp_path / f"ended_{seconds}")
    assert typed(*words, cwd=tmp_path).returncode == 0
    assert contents(tmp_path / "runs") == contents(tmp_path / "through" / "runs") and killed >= MOMENTS // 2
    for metrics in tmp_path.glob("runs/*/metrics.csv"):
        epochs = [line.partition(",")[0] for line in metrics.read_text().splitlines()[1:]]
        assert epochs == [str(number + 1) for number in range(len(epochs))], "no row twice, none lost"
