"""How a step's time grows with batch, depth and images, and each stage's peak of memory: no ratios."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trainings import NOISE, Bench
from turns import ROOT, Steps, ms, quiet

PEAK = """
import runpy, sys
sys.argv[0] = "run.py"
try:
    runpy.run_path("run.py", run_name="__main__")
except SystemExit:
    pass
status = open("/proc/self/status").read()  # ru_maxrss would be the starting process's where that was larger
print(status.split("VmHWM:")[1].split()[0])
"""


def growth(folder: Path) -> dict[str, Any]:
    """A KD step in ms, one thread; and MiB."""
    torch.set_num_threads(1)
    table = {}
    for student in ("thin_relu", "thin_deep", "thin_deeper"):
        table[f"{student}, batch 64"] = step_ms(folder / student, [f"student={student}"])
    table["thin_deep, batch 256"] = step_ms(folder / "batch256", ["batch_size=256"])
    few = [*NOISE, "+dataset.size=8", "+dataset.train=50000", "updates_per_epoch=10"]
    table["thin_deep, batch 64, 50,000 images"] = step_ms(folder / "images", few)
    peak = {}
    words = ["epochs.teacher=1", "epochs.hint=1", "epochs.kd=1", "trainer=cpu", f"runs_dir={folder}/peak"]
    for stage in ("teacher", "backprop", "hint", "kd"):
        command = [sys.executable, "-c", PEAK, *words, f"stage={stage}"]
        done = subprocess.run(command, cwd=ROOT, env=quiet(1), text=True, capture_output=True)
        peak[stage] = int(done.stdout.splitlines()[-1]) // 1024
    return {"growth_kd_step_ms": table, "peak_memory_mib_digits": peak}


def step_ms(folder: Path, overrides: Sequence[str]) -> float:
    steps = Steps()
    Bench(folder, overrides, epochs=3).timed("kd", steps)
    return ms([seconds for epoch in steps.warm() for seconds in epoch[:-1]])
