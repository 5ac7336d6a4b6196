"""Images per second, and share of the device's own bf16 peak, of every stage at FitNets 1-4, bf16 and compiled.

python benchmarks/gpu.py --json results/benchmark_gpu.json
python benchmarks/gpu.py --trainer cpu --students fitnet1 --images 256 --epochs 2     a try where there is none

The peak is measured: the fastest of several large bf16 matrix products. A stage's work is its multiply-adds forward,
three times for forward and backward, of what it trains: the guided half and the regressor in the hint stage. Images are
random, 32x32, flipped; teacher answers are cached. The paper's Table 5 and its wall time is then one more command:
time python scripts/reproduce.py cifar10 --path DIR --seeds 0 --recipes modern --budget 60 --teacher-budget 60 \
    --set trainer=gpu --set trainer.precision=bf16-mixed --set trainer.compile=true
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from pytorch_lightning import Callback
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from fitnets.training.engine import train
from fitnets.training.provenance import hardware, versions
from trainings import BATCH, NOISE, Bench

STAGES = ("teacher", "backprop", "hint", "kd")


class Epochs(Callback):
    """Seconds of the updates of each epoch, validation left out, the device's queue waited for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.started = now()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.seconds.append(now() - self.started)


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak(device: torch.device) -> float:
    """Multiply-adds a second of the fastest of several square bf16 matrix products."""
    size = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(20):
        started = now()
        a @ b
        times.append(now() - started)
    return size**3 / min(times)


def multiply_adds(bench: Bench, name: str) -> float:
    """Of forward and backward of what a stage trains, for one image."""
    data, stage = bench.built(name)
    x = torch.zeros(2, *data.input_shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        stage.eval()
        if stage.classifies:
            stage.net(x)
        else:
            stage.objective.body.predicted(stage.features(x).features)
    return 3 * counter.get_total_flops() / 2 / len(x)


def measured(student: str, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    words = [*NOISE, f"+dataset.train={given.images}", "teacher=maxout_cifar", f"student={student}", "hint=middle"]
    words += [f"trainer={given.trainer}", "trainer.precision=bf16-mixed", f"batch_size={BATCH}"]
    bench = Bench(folder, [*words, f"trainer.compile={str(given.trainer == 'gpu').lower()}"], given.epochs)
    bench.runs["teacher"] = replace(bench.teacher, spec=bench.teacher.spec | {"epochs": given.epochs})
    bench.parents["teacher"] = {}
    found = {}
    for stage in STAGES:
        clock, run = Epochs(), bench.runs[stage]
        train(run, folder / f"{stage}-timed", bench.parents[stage], bench.config["trainer"], [clock])
        updates = given.images // run.spec["recipe"]["batch_size"]
        speed = updates * run.spec["recipe"]["batch_size"] / median(clock.seconds[1:])
        found[stage] = {"images_per_s": round(speed), "multiply_adds_per_s": speed * multiply_adds(bench, stage)}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--trainer", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--students", nargs="+", default=[f"fitnet{i}" for i in (1, 2, 3, 4)])
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--epochs", type=int, default=5, help="of each stage; the first one warms up")
    given = parser.parse_args(arguments)
    if given.trainer == "gpu" and not torch.cuda.is_available():
        print("torch finds no GPU here; --trainer cpu is a try without one", file=sys.stderr)
        return 2
    device = torch.device("cuda" if given.trainer == "gpu" else "cpu")
    top = peak(device)
    out: dict[str, Any] = {"hardware": hardware(device), "versions": versions(), "peak_multiply_adds_per_s": top}
    table = Table("student", "stage", "images/s", "share of the bf16 peak")
    with tempfile.TemporaryDirectory() as folder:
        for student in given.students:
            out[student] = measured(student, given, Path(folder) / student)
            for stage, figures in out[student].items():
                figures["share_of_peak"] = round(figures["multiply_adds_per_s"] / top, 4)
                table.add_row(student, stage, f"{figures['images_per_s']:,}", f"{figures['share_of_peak']:.1%}")
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps(out, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
