"""Many jobs in one process: a sweep of hundreds needs no more memory, threads or open files than one of a few."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMALL
from tests.typed import ENV

# `python run.py`, which writes before each job what the process has then: resident MB, threads, open files, and the
# objects that live; before some of them without the garbage, which Python picks up once in some jobs.
WATCHED = """
import contextlib, gc, json, os, pathlib, runpy, sys
import fitnets.report.sweep, fitnets.sweep

out, collected, run = open(sys.argv[1], "w", buffering=1), json.loads(sys.argv[2]), sys.argv[3]
as_job = fitnets.sweep.as_job

def now(number=None):
    if number in collected:
        gc.collect()
    status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    handles = os.listdir("/proc/self/fd")
    return [int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), len(handles), len(gc.get_objects())]

@contextlib.contextmanager
def watched(folder, number, words):
    print(json.dumps(now(number)), file=out)
    with as_job(folder, number, words) as job:
        yield job

fitnets.sweep.as_job = watched
fitnets.report.sweep.finish = lambda folder: 0  # the sweep's report takes longer than ten of these jobs
sys.argv = [run, *sys.argv[4:]]
try:
    runpy.run_path(run, run_name="__main__")
finally:
    print(json.dumps(now()), file=out)
"""
TINY = ["stage=backprop", "epochs.hint=1", "epochs.kd=1", "updates_per_epoch=2", "trainer.threads=1"]
LOGGERS = "logger=[csv,wandb,tensorboard]"

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads what Linux tells of a process")


def watched(folder: Path, jobs: int, collected: list[int], *words: str) -> list[list[float]]:
    """What the process had before each of a sweep's jobs and at its end."""
    seeds = f"seed={','.join(map(str, range(jobs)))}"
    typed = ["-m", *SMALL, *TINY, seeds, *words]
    script = [sys.executable, "-c", WATCHED, str(folder / "seen.txt"), json.dumps(collected), str(ROOT / "run.py")]
    env = ENV | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    done = subprocess.run([*script, *typed], cwd=folder, env=env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0 and len(list(folder.glob("runs/*/result.json"))) == jobs, done.stderr
    seen = [json.loads(line) for line in (folder / "seen.txt").read_text().splitlines()]
    assert len(seen) == jobs + 1
    return seen


@pytest.mark.slow
def test_a_job_of_a_sweep_leaves_nothing_behind(tmp_path: Path) -> None:
    """Objects are counted, as a few jobs' memory is less than what an allocator keeps: Hydra left 1,400 a job."""
    seen = watched(tmp_path, 10, [4, 9])
    (before, *early), (after, *late) = seen[4], seen[9]
    assert early[:2] == late[:2], "threads and open files"
    assert late[2] - early[2] < 100 * 5, "objects of five jobs"
    assert after - before < 40


@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "words"), [(200, []), (40, [LOGGERS])])
def test_many_jobs_need_what_few_do(tmp_path: Path, jobs: int, words: list[str]) -> None:
    seen = watched(tmp_path, jobs, [], *words)
    (before, threads, handles, _), (after, *late) = seen[20], seen[jobs - 1]
    assert late[0] <= threads and late[1] <= handles
    assert after - before < 20, f"MB more after job {jobs} than after job 20"
