"""What a step costs: this framework beside plain loops and beside peers, as ratios (small is good).

python scripts/benchmark.py --json FILE            everything, at 1 and 2 threads (under 10 minutes on 2 cores)
python scripts/benchmark.py --only steps --threads 1

Whatever is compared runs in turn, several rounds, and medians are taken. Trainings go through `fitnets.train.train`,
which is what `python run.py` calls, with the progress display and the recorder. Images are random: speed does not
see them. `make peers` installs the peers in an environment of their own; one that is missing has no ratio.
"""

import argparse
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pytorch_lightning import Callback
from pytorch_lightning.profilers import SimpleProfiler
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fitnets.assemble import make_data, make_module
from fitnets.data.images import Images
from fitnets.losses import hard_cross_entropy, hint_loss, kd_loss, linear, soft_cross_entropy
from fitnets.report.progress import StageProgress
from fitnets.runs import Run, ensure, folder_of, plan
from fitnets.train import hardware, train, versions

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".venv-peers" / "bin" / "python"
ROUNDS = 3
STEP_ROUNDS = 2
BATCH = 128
STEPS = 4  # an epoch of the 32x32 pairs
PAIRS = {
    "resnet56-resnet20": ["teacher=resnet56", "student=resnet20", "hint=middle"],  # middle: layer2 in both
    "maxout_cifar-fitnet1": ["teacher=maxout_cifar", "student=fitnet1", "hint=middle"],
}
NOISE = ["dataset._target_=benchmark.noise", "dataset.name=noise", "~dataset.test_fraction", "augment=flip"]
SWEEP = ["epochs.teacher=8", "epochs.hint=5", "epochs.kd=10", "trainer=cpu"]
TEMPERATURES = (1, 2, 4, 8, 16)
MUST = {  # the largest that each ratio may be
    **dict.fromkeys(("kd_over_backprop", "hint_over_guided"), 1.08),
    **dict.fromkeys(("framework_over_loop", "sweep_over_parts"), 1.05),
    **dict.fromkeys(("kd_over_torchdistill", "hint_over_torchdistill"), 0.5),
    "loader_share": 0.03,
}
HELP_CPU_SECONDS = 1.2
PARTS = ("steps", "epochs", "peers", "sweep", "cli", "growth")


def noise(split_seed: int, size: int = 32) -> Images:
    """Random images: STEPS batches to train on (with the digits' val_fraction) and one to test on."""
    generator = torch.Generator().manual_seed(split_seed)
    count = round(STEPS * BATCH / (1 - 0.1875))

    def images(n: int) -> Tensor:
        return torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=generator)

    return Images(images(count), torch.arange(count) % 10, images(BATCH), torch.arange(BATCH) % 10, tuple("0123456789"))


# ------------------------------------------------------------------------------------------- timing


class Clock(Callback):
    """When each step and each epoch starts, in the midst of what users run; `waits`: seconds waiting for data."""

    def __init__(self, profiled: bool = False):
        self.profiled = profiled
        self.steps: list[list[float]] = []  # by epoch
        self.epochs: list[float] = []

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if self.profiled and stage == "fit":
            trainer.profiler = self.profiler = SimpleProfiler()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.epochs.append(time.perf_counter())
        self.steps.append([])

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.steps[-1].append(time.perf_counter())

    @property
    def waits(self) -> list[float]:
        return self.profiler.recorded_durations["[_TrainingEpochLoop].train_dataloader_next"]


def between(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def flat(epochs: Sequence[Sequence[float]]) -> list[float]:
    """Seconds of the steps within epochs."""
    return [seconds for epoch in epochs for seconds in between(epoch)]


class Bench:
    """One config: its untrained teacher, its runs by stage, and a folder where they may be trained again and again."""

    def __init__(self, folder: Path, overrides: Sequence[str], epochs: int):
        shared = ["recipe=modern", "trainer=cpu", "seeds=[0]", f"runs_dir={folder}", *overrides]
        sizes = [f"epochs.hint={epochs - 1}", "epochs.kd=1", "epochs.teacher=1"]  # KD alone has hint + kd epochs
        self.folder = folder
        self.cfg = composed(*shared, *sizes)
        self.runs = {stage: plan(composed(*shared, *sizes, f"stage={stage}"))[-1] for stage in ("backprop", "kd")}
        hint = [f"epochs.hint={epochs}", "epochs.kd=1", "epochs.teacher=1", "stage=hint"]
        self.runs["hint"] = plan(composed(*shared, *hint))[-1]
        untrained(self.runs["kd"].parents["teacher"], folder)

    def parents(self, run: Run) -> dict[str, Path]:
        return {role: folder_of(parent, self.folder) for role, parent in run.parents.items()}

    def train(self, stage: str, clock: Clock) -> Clock:
        run = self.runs[stage]
        folder = folder_of(run, self.folder)
        shutil.rmtree(folder, ignore_errors=True)
        console = Console(file=open(os.devnull, "w"))  # noqa: SIM115
        train(run, folder, self.parents(run), self.cfg["trainer"], [clock, StageProgress(console, stage)])
        return clock

    def parts(self, stage: str) -> tuple[Any, Any]:
        """The stage's data and module, for a loop of our own."""
        run, cpu = self.runs[stage], torch.device("cpu")
        data = make_data(run, self.parents(run))
        data.move_to(cpu)
        return data, make_module(run, data, self.parents(run), cpu)


def untrained(teacher: Run, folder: Path) -> None:
    """The teacher's folder with fresh weights: how well it answers changes no time."""
    spec = {**teacher.spec, "epochs": 0}
    ensure(teacher, folder, lambda _, where, parents: train(replace(teacher, spec=spec), where, parents, CPU, []))


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(overrides)), resolve=True)  # type: ignore[return-value]


CPU: dict[str, Any] = yaml.safe_load((ROOT / "conf" / "trainer" / "cpu.yaml").read_text())


# ------------------------------------------------------------------------------- hand-written loops


def guided_alone(bench: Bench, steps: int) -> list[float]:
    """Seconds of each forward and backward pass of the guided half and the regressor, on one batch, nothing else."""
    data, module = bench.parts("hint")
    batch = next(iter(data.train_dataloader()))
    target = module.hints(batch)
    module.train()
    times = [time.perf_counter()]
    for _ in range(steps + 1):
        module.zero_grad()
        hint_loss(module.regressor(module.guided(batch.x)), target, "example").backward()
        times.append(time.perf_counter())
    return between(times)[1:]


def kd_loop(bench: Bench, epochs: int) -> list[float]:
    """Seconds of each epoch of KD as a person would write it by hand: same data, cache, memory format, figures."""
    data, module = bench.parts("kd")
    student, answers, tau = module.student, module.answers, module.temperature
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    batches, validation, times = data.train_dataloader(), data.val_dataloader(), [time.perf_counter()]
    for epoch in range(epochs):
        student.train()
        weight, total = linear(epoch, epochs, 4.0, 1.0), torch.zeros(())
        for batch in batches:
            logits = student(batch.x)
            soft = soft_cross_entropy(logits, answers(batch), tau)
            loss = kd_loss(hard_cross_entropy(logits, batch.y), soft, weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        student.eval()
        sums = torch.zeros(4)
        with torch.no_grad():
            for batch in validation:
                logits, teacher = student(batch.x), answers(batch)
                log_p, log_q = F.log_softmax(teacher, 1), F.log_softmax(logits, 1)
                best = logits.argmax(1)
                sums += torch.stack([
                    (best == batch.y).sum(), F.nll_loss(log_q, batch.y, reduction="sum"),
                    (best == teacher.argmax(1)).sum(), (log_p.exp() * (log_p - log_q)).sum(),
                ])  # fmt: skip
        _ = [float(total), *sums.tolist()]
        times.append(time.perf_counter())
    return between(times)


# ------------------------------------------------------------------------------------------- figures

Figures = dict[str, Any]


def ms(seconds: Sequence[float]) -> float:
    return round(1000 * median(seconds), 3)


def steps(pair: str, threads: int, work: Path, out: Figures) -> None:
    """KD over backprop, hint over its guided half alone, time waiting for data."""
    bench, times = (
        Bench(work / f"{pair}-{threads}", [*NOISE, *PAIRS[pair], f"batch_size={BATCH}"], epochs=3),
        defaultdict(list),
    )
    for _ in range(STEP_ROUNDS):
        for stage in ("backprop", "kd", "hint"):
            clock = bench.train(stage, Clock(profiled=stage == "kd"))
            times[stage].extend(flat(clock.steps)[1:])
            if stage == "kd":
                times["wait"].extend(clock.waits[1:STEPS])
        times["guided alone"].extend(guided_alone(bench, 2 * STEPS))
    name = f"{pair}/{threads}t"
    ratio, detail = out["ratios"], {f"{what}_ms": ms(seconds) for what, seconds in times.items()}
    ratio[f"kd_over_backprop/{name}"] = detail["kd_ms"] / detail["backprop_ms"]
    ratio[f"hint_over_guided/{name}"] = detail["hint_ms"] / detail["guided alone_ms"]
    ratio[f"loader_share/{name}"] = detail["wait_ms"] / detail["kd_ms"]
    detail |= with_filling(bench.folder / ".answers", detail)
    out["details"].setdefault("steps", {})[name] = detail


def with_filling(store: Path, detail: Figures, epochs: int = 30) -> Figures:
    """The ratios of a whole training of `epochs`, the time in which the teacher answered each sample included."""
    found: Figures = {}
    for file in store.glob("*.json"):
        about = json.loads(file.read_text())
        a_batch = 1000 * about["seconds"] / about["shape"][0] * 2 * BATCH / epochs  # two variants: flips
        stage, plain = ("hint", "guided alone") if about["layer"] else ("kd", "backprop")
        found[f"{stage}_fill_ms_a_step_over_{epochs}_epochs"] = round(a_batch, 3)
        found[f"{stage}_ratio_with_filling"] = round((detail[f"{stage}_ms"] + a_batch) / detail[f"{plain}_ms"], 3)
    return found


def epochs(threads: int, work: Path, out: Figures) -> None:
    """A KD epoch through the framework, validation and callbacks included, over a loop written by hand."""
    pair = next(iter(PAIRS))
    for name, overrides, count in (
        ("digits-thin_deep", [], 12),
        (pair, [*NOISE, *PAIRS[pair], f"batch_size={BATCH}"], 4),
    ):
        bench = Bench(work / f"epochs-{name}-{threads}", overrides, count)
        ours: list[float] = []
        plain: list[float] = []
        for _ in range(ROUNDS):
            ours += between(bench.train("kd", Clock()).epochs)[1:]
            plain += kd_loop(bench, count)[1:]
        out["ratios"][f"framework_over_loop/{name}/{threads}t"] = median(ours) / median(plain)
        detail = {"framework_epoch_ms": ms(ours), "loop_epoch_ms": ms(plain)}
        if name.startswith("digits"):
            clock = bench.train("kd", Clock(profiled=True))
            step = median(flat(clock.steps))
            out["ratios"][f"loader_share/{name}/{threads}t"] = median(clock.waits) / step
            detail["step_ms"] = ms([step])
        out["details"].setdefault("epochs", {})[f"{name}/{threads}t"] = detail


def peers(threads: int, out: Figures) -> None:
    """Our step over torchdistill's, each pair; needs the figures of `steps`."""
    if not PEERS.exists():
        print("torchdistill is not installed: no ratio over it (`make peers` installs it)")
        return
    for pair in PAIRS:
        cfg, rounds = composed(*NOISE, *PAIRS[pair]), []
        nets = json.dumps({role: cfg[role]["net"] for role in ("teacher", "student")})
        for _ in range(2):
            command = [str(PEERS), str(ROOT / "scripts" / "benchmark_peers.py"), nets, str(threads)]
            done = subprocess.run(command, capture_output=True, text=True, env=quiet(threads))
            if done.returncode:
                print(f"torchdistill failed on {pair}: {done.stderr.strip().splitlines()[-1:]}")
                return
            rounds.append(json.loads(done.stdout.splitlines()[-1]))
        name = f"{pair}/{threads}t"
        ours = out["details"]["steps"][name]
        for stage in ("hint", "kd"):
            theirs = ms([seconds for r in rounds for seconds in r[stage]])
            ours[f"torchdistill_{stage}_ms"] = theirs
            out["ratios"][f"{stage}_over_torchdistill/{name}"] = ours[f"{stage}_ms"] / theirs


def quiet(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}


def sweep(work: Path, out: Figures, threads: int = 1) -> None:
    """`run.py -m` over five temperatures, over one teacher, one hint and five KD trainings in one bare process."""
    words = [*SWEEP, "stage=fitnet", f"trainer.threads={threads}"]
    swept, parts = [], []
    for number in range(ROUNDS):
        runs = work / f"swept{number}"
        command = [sys.executable, "run.py", "-m", *words, f"temperature={','.join(map(str, TEMPERATURES))}"]
        swept.append(seconds_of([*command, f"runs_dir={runs}"], threads))
        given = json.dumps([*words, f"runs_dir={work}/parts{number}"])
        parts.append(seconds_of([sys.executable, __file__, "--seven-parts", given], threads))
    out["ratios"]["sweep_over_parts"] = median(swept) / median(parts)
    out["details"]["sweep"] = {"sweep_seconds": swept, "parts_seconds": parts, "config": words}


def seven_parts(words: list[str]) -> None:
    """The trainings of the sweep and nothing else: no plan, no store, no checks."""
    done: set[str] = set()
    for temperature in TEMPERATURES:
        cfg = composed(*words, f"temperature={temperature}")
        torch.set_num_threads(cfg["trainer"]["threads"])
        folder = Path(cfg["runs_dir"])
        kd = plan(cfg)[-1]
        for run in (kd.parents["teacher"], kd.parents["hint"], kd):
            if run.name not in done:
                parents = {role: folder_of(parent, folder) for role, parent in run.parents.items()}
                train(run, folder_of(run, folder), parents, cfg["trainer"], [])
                done.add(run.name)


def seconds_of(command: Sequence[Any], threads: int) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, env=quiet(threads), stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - started, 2)


def cli(out: Figures) -> None:
    """CPU seconds of the commands that only print."""
    for words in (["--help"], ["--cfg", "job"]):
        times = []
        for _ in range(ROUNDS):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds_of([sys.executable, "run.py", *words], 1)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        out["details"].setdefault("cli_cpu_seconds", {})[" ".join(words)] = round(median(times), 2)


def growth(work: Path, out: Figures) -> None:
    """How a step's time grows with batch and depth (one thread, step ms), and each stage's peak of memory."""
    torch.set_num_threads(1)
    table: Figures = {}
    for batch in (16, 64, 256):
        table[f"thin_deep, batch {batch}"] = step_ms(work / f"batch{batch}", [f"batch_size={batch}"])
    for student in ("thin_relu", "thin_deep", "thin_deeper"):
        table[f"{student}, batch 64"] = step_ms(work / student, [f"student={student}"])
    out["details"]["growth_kd_step_ms"] = table
    peak: Figures = {}
    words = ["epochs.teacher=1", "epochs.hint=1", "epochs.kd=1", "trainer=cpu", f"runs_dir={work}/peak"]
    for stage in ("teacher", "backprop", "hint", "kd"):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *words, f"stage={stage}"],
            cwd=ROOT,
            env=quiet(1),
            text=True,
            capture_output=True,
        )
        peak[stage] = int(done.stdout.splitlines()[-1]) // 1024
    out["details"]["peak_memory_mib_digits"] = peak


PEAK = """
import resource, sys, run
sys.argv[0] = "run.py"
run.main()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def step_ms(folder: Path, overrides: Sequence[str]) -> float:
    clock = Bench(folder, overrides, epochs=3).train("kd", Clock())
    return ms(flat(clock.steps)[1:])


# ------------------------------------------------------------------------------------------- report


def show(out: Figures) -> None:
    table = Table("ratio", "measured", "at most", "")
    for name, value in out["ratios"].items():
        must = MUST[name.partition("/")[0]]
        table.add_row(name, f"{value:.3f}", f"{must}", "" if value <= must else "over")
    Console(width=100).print(table)
    print(json.dumps(out["details"], indent=1))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="parts to measure (default: all)")
    parser.add_argument("--seven-parts", type=json.loads, help=argparse.SUPPRESS)  # called by `sweep`
    given = parser.parse_args(arguments)
    if given.seven_parts:
        seven_parts(given.seven_parts)
        return 0
    out: Figures = {"ratios": {}, "details": {"hardware": hardware(torch.device("cpu")), "versions": versions()}}
    out["details"]["threads"] = given.threads
    started = time.perf_counter()

    def measured(what: str, part: Callable[..., None], *args: Any) -> None:
        print(f"{time.perf_counter() - started:4.0f} s  {what}", flush=True)
        gc.collect()
        part(*args)

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for threads in given.threads:
            torch.set_num_threads(threads)
            if "steps" in given.only:
                for pair in PAIRS:
                    measured(f"steps of {pair}, {threads} threads", steps, pair, threads, work, out)
            if "epochs" in given.only:
                measured(f"epochs, {threads} threads", epochs, threads, work, out)
            if "peers" in given.only and "steps" in given.only:
                measured(f"peers, {threads} threads", peers, threads, out)
        if "sweep" in given.only:
            measured("a sweep", sweep, work, out)
        if "cli" in given.only:
            measured("command line", cli, out)
        if "growth" in given.only:
            measured("growth", growth, work, out)
    out["details"]["seconds"] = round(time.perf_counter() - started)
    out["ratios"] = {name: round(value, 4) for name, value in out["ratios"].items()}
    show(out)
    if given.json:
        given.json.write_text(json.dumps(out, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
