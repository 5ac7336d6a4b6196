"""What a step costs: this framework beside plain loops and beside peers, as ratios (small is good).

python scripts/benchmark.py --json FILE            everything, at 1 and 2 threads (under 10 minutes on 2 cores)
python scripts/benchmark.py --only steps --threads 1

Whatever is compared takes turns, by the step where steps are long, and medians are taken. Trainings go
through `fitnets.train.train`, which is what `python run.py` calls, with the progress display and the recorder. Images
are random: speed does not see them. `make peers` installs the peers in an environment of their own; one that is
missing has no ratio.
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
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as run.py has it
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
from fitnets.data.curriculum import GrowingPool
from fitnets.data.images import Images
from fitnets.losses import hard_cross_entropy, hint_loss, kd_loss, linear, soft_cross_entropy
from fitnets.provenance import hardware, versions
from fitnets.report.progress import StageProgress
from fitnets.runs import Run, ensure, folder_of, plan
from fitnets.train import train

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".venv-peers" / "bin" / "python"
ROUNDS = 3  # of whole commands, and of trainings whose steps are short
PEER_ROUNDS = 2
EPOCHS = 6  # of STEPS each; the first one warms up
BATCH = 128
STEPS = 4  # an epoch of the 32x32 pairs
PAIRS = {
    "resnet56-resnet20": ["teacher=resnet56", "student=resnet20", "hint=middle"],  # middle: layer2 in both
    "maxout_cifar-fitnet1": ["teacher=maxout_cifar", "student=fitnet1", "hint=middle"],
}
NOISE = ["dataset._target_=benchmark.noise", "dataset.name=noise", "~dataset.test_fraction", "augment=flip"]
SWEEP = ["epochs.teacher=4", "epochs.hint=3", "epochs.kd=6", "trainer=cpu"]
TEMPERATURES = (1, 2, 4, 8, 16)
MUST = {  # the largest that each ratio may be
    **dict.fromkeys(("kd_over_backprop", "hint_over_guided"), 1.08),
    **dict.fromkeys(("framework_over_loop", "sweep_over_parts"), 1.05),
    **dict.fromkeys(("kd_over_torchdistill", "hint_over_torchdistill"), 0.5),
    "loader_share": 0.03,
    "curriculum_over_plain": 1.02,
}
HELP_CPU_SECONDS = 1.2
PARTS = ("steps", "epochs", "peers", "curriculum", "sweep", "cli", "growth")


def noise(split_seed: int, size: int = 32, train: int | None = None) -> Images:
    """Random images: STEPS batches to train on (with the digits' val_fraction), or `train`, and one to test on."""
    generator = torch.Generator().manual_seed(split_seed)
    count = round((train or STEPS * BATCH) / (1 - 0.1875))

    def images(n: int) -> Tensor:
        return torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=generator)

    return Images(images(count), torch.arange(count) % 10, images(BATCH), torch.arange(BATCH) % 10, tuple("0123456789"))


# ------------------------------------------------------------------------------------------- timing


class Steps:
    """Seconds of the steps of one training or loop, by epoch; `next` is called at the start of each step.

    An epoch's last step includes what lies between epochs: validation, figures, checkpoints.
    """

    def __init__(self) -> None:
        self.epochs_: list[list[float]] = []
        self.since = time.perf_counter()

    def next(self, new_epoch: bool) -> None:
        now = time.perf_counter()
        if self.epochs_:
            self.epochs_[-1].append(now - self.since)
        if new_epoch:
            self.epochs_.append([])
        self.since = now

    def steps(self) -> list[float]:
        """Of the steps within epochs, the first epoch left out: it warms up."""
        return [seconds for epoch in self.epochs_[1:] for seconds in epoch[:-1]]

    def epochs(self) -> list[float]:
        """Of whole epochs, without the first and the unfinished last one."""
        return [sum(epoch) for epoch in self.epochs_[1:-1]]


Work = Callable[[Steps], None]


def in_rounds(**work: Work) -> dict[str, list[Steps]]:
    """Each in turn, whole, ROUNDS times: for steps of milliseconds, which changing turns would slow."""
    found: dict[str, list[Steps]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, job in work.items():
            found[name].append(Steps())
            job(found[name][-1])
    return found


class InTurns:
    """Trainings and loops, each in a thread of its own, that take turns by the step: only one runs at a time.

    A machine's speed drifts within seconds, so long steps that are compared must be measured side by side.
    """

    def __init__(self, **work: Work):
        self.names = list(work)
        self.found: dict[str, Steps] = {}
        self.condition = threading.Condition()
        self.turn = 0
        self.failed: list[BaseException] = []
        threads = [threading.Thread(target=self._work, args=(name, job)) for name, job in work.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failed:
            raise self.failed[0]

    def _work(self, name: str, job: Work) -> None:
        turns = self

        class GivesWay(Steps):
            def next(self, new_epoch: bool) -> None:
                super().next(new_epoch)
                with turns.condition:
                    turns.turn = (turns.turn + 1) % len(turns.names)
                    turns.condition.notify_all()
                turns._wait(name)
                self.since = time.perf_counter()

        self._wait(name)
        self.found[name] = GivesWay()
        try:
            job(self.found[name])
        except BaseException as error:
            self.failed.append(error)
        with self.condition:
            self.turn = self.turn % max(1, len(self.names) - 1)
            self.names.remove(name)
            self.condition.notify_all()

    def _wait(self, name: str) -> None:
        with self.condition:
            self.condition.wait_for(lambda: self.names[self.turn] == name)


class Timed(Callback):
    """Times a training by `fitnets.train.train` from within."""

    def __init__(self, steps: Steps):
        self.steps = steps

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.steps.next(new_epoch=batch_idx == 0)


class Waits(Callback):
    """Seconds that a training waits for data at each step, by Lightning's own profiler."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            trainer.profiler = self.profiler = SimpleProfiler()

    @property
    def seconds(self) -> list[float]:
        return self.profiler.recorded_durations["[_TrainingEpochLoop].train_dataloader_next"]


def over(a: Sequence[float], b: Sequence[float]) -> float:
    """The median of the ratios of neighbours in time."""
    return median(x / y for x, y in zip(a, b, strict=False))


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
        if score := self.runs["kd"].parents.get("score"):
            ensure(score, folder, lambda run, where, parents: train(run, where, parents, CPU, []))

    def parents(self, run: Run) -> dict[str, Path]:
        return {role: folder_of(parent, self.folder) for role, parent in run.parents.items()}

    def train(self, stage: str, callback: Callback) -> None:
        run = self.runs[stage]
        folder = folder_of(run, self.folder)
        shutil.rmtree(folder, ignore_errors=True)
        console = Console(file=open(os.devnull, "w"))  # noqa: SIM115
        train(run, folder, self.parents(run), self.cfg["trainer"], [callback, StageProgress(console, stage)])

    def trains(self, stage: str) -> Work:
        """The stage, as users run it."""
        return lambda steps: self.train(stage, Timed(steps))

    def waits(self, stage: str) -> list[float]:
        waits = Waits()
        self.train(stage, waits)
        return waits.seconds

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


def guided_alone(bench: Bench, epochs: int) -> Work:
    """Forward and backward pass of the guided half and the regressor on one batch, nothing else."""

    def loop(steps: Steps) -> None:
        torch.set_flush_denormal(True)
        data, module = bench.parts("hint")
        batch = next(iter(data.train_dataloader()))
        target = module.hints(batch)
        module.train()
        for step in range(epochs * STEPS):
            steps.next(new_epoch=step % STEPS == 0)
            module.zero_grad()
            hint_loss(module.regressor(module.guided(batch.x)), target, "example").backward()

    return loop


def kd_loop(bench: Bench, epochs: int) -> Work:
    """KD as a person would write it by hand: same data, cache, memory format, figures."""

    def loop(steps: Steps) -> None:
        torch.set_flush_denormal(True)
        data, module = bench.parts("kd")
        student, answers, tau = module.student, module.answers, module.temperature
        configured = module.configure_optimizers()
        optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
        batches, validation = data.train_dataloader(), data.val_dataloader()
        for epoch in range(epochs):
            student.train()
            weight, total = linear(epoch, epochs, 4.0, 1.0), torch.zeros(())
            for number, batch in enumerate(batches):
                steps.next(new_epoch=number == 0)
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

    return loop


# ------------------------------------------------------------------------------------------- figures

Figures = dict[str, Any]


def ms(seconds: Sequence[float]) -> float:
    return round(1000 * median(seconds), 3)


def steps(pair: str, threads: int, work: Path, out: Figures) -> None:
    """KD over backprop, hint over its guided half alone, time waiting for data."""
    bench = Bench(work / f"{pair}-{threads}", [*NOISE, *PAIRS[pair], f"batch_size={BATCH}"], EPOCHS)
    stages = {stage: bench.trains(stage) for stage in ("backprop", "kd", "hint")}
    turns = InTurns(**stages, guided_alone=guided_alone(bench, EPOCHS))
    times = {name: steps.steps() for name, steps in turns.found.items()}
    name = f"{pair}/{threads}t"
    detail = {f"{what}_ms": ms(seconds) for what, seconds in times.items()} | {"steps": len(times["kd"])}
    out["ratios"][f"kd_over_backprop/{name}"] = over(times["kd"], times["backprop"])
    out["ratios"][f"hint_over_guided/{name}"] = over(times["hint"], times["guided_alone"])
    waits = bench.waits("kd")
    out["ratios"][f"loader_share/{name}"] = median(waits) / median(times["kd"])
    detail["wait_ms"] = ms(waits)
    ratios = {kind: out["ratios"][f"{kind}/{name}"] for kind in ("kd_over_backprop", "hint_over_guided")}
    out["details"].setdefault("steps", {})[name] = detail | with_filling(bench.folder / ".answers", detail, ratios)


def with_filling(store: Path, detail: Figures, ratios: Figures, epochs: int = 30) -> Figures:
    """The ratios of a whole training of `epochs`, the time in which the teacher answered each sample included."""
    found: Figures = {}
    for file in store.glob("*.json"):
        about = json.loads(file.read_text())
        a_batch = 1000 * about["seconds"] / about["shape"][0] * 2 * BATCH / epochs  # two variants: flips
        ratio, plain = ("hint_over_guided", "guided_alone") if about["layer"] else ("kd_over_backprop", "backprop")
        stage = ratio.partition("_")[0]
        found[f"{stage}_fill_ms_a_step_over_{epochs}_epochs"] = round(a_batch, 3)
        found[f"{stage}_ratio_with_filling"] = round(ratios[ratio] + a_batch / detail[f"{plain}_ms"], 3)
    return found


def epochs(threads: int, work: Path, out: Figures) -> None:
    """A KD epoch through the framework, validation and callbacks included, over a loop written by hand."""
    pair = next(iter(PAIRS))
    for name, overrides, count in (
        ("digits-thin_deep", [], 2 * EPOCHS),
        (pair, [*NOISE, *PAIRS[pair], f"batch_size={BATCH}"], EPOCHS),
    ):
        bench = Bench(work / f"epochs-{name}-{threads}", overrides, count)
        rounds = in_rounds(framework=bench.trains("kd"), loop=kd_loop(bench, count))
        ours, plain = ([median(steps.epochs()) for steps in rounds[which]] for which in ("framework", "loop"))
        out["ratios"][f"framework_over_loop/{name}/{threads}t"] = over(ours, plain)
        detail = {"framework_epoch_ms": ms(ours), "loop_epoch_ms": ms(plain), "epochs_a_round": count - 2}
        if name.startswith("digits"):
            step = median(seconds for steps in rounds["framework"] for seconds in steps.steps())
            out["ratios"][f"loader_share/{name}/{threads}t"] = median(bench.waits("kd")) / step
            detail["step_ms"] = ms([step])
        out["details"].setdefault("epochs", {})[f"{name}/{threads}t"] = detail


def curriculum(threads: int, work: Path, out: Figures) -> None:
    """A KD step on digits with a growing pool over one with plain shuffles; and what a pool of 50,000 samples costs."""
    count = 2 * EPOCHS
    words = {"plain": [], "curriculum": ["curriculum=easy_to_hard", "curriculum.pacing.full_at=1"]}
    benches = {name: Bench(work / f"{name}-{threads}", of, count) for name, of in words.items()}
    rounds = in_rounds(**{name: bench.trains("kd") for name, bench in benches.items()})
    step = {name: [median(steps.steps()) for steps in of] for name, of in rounds.items()}
    epoch = {name: [median(steps.epochs()) for steps in of] for name, of in rounds.items()}
    out["ratios"][f"curriculum_over_plain/digits-thin_deep/{threads}t"] = over(step["curriculum"], step["plain"])
    detail = {f"{name}_step_ms": ms(of) for name, of in step.items()}
    detail["epoch_ratio"] = round(over(epoch["curriculum"], epoch["plain"]), 4)
    pool = GrowingPool(torch.randperm(50_000), BATCH, 1000, 0, lambda index, t: index, lambda t: t / 1000)
    times = [time.perf_counter()]
    for _ in pool:
        times.append(time.perf_counter())
    detail["a_batch_of_50000_samples_ms"] = ms([b - a for a, b in pairwise(times)])
    out["details"].setdefault("curriculum", {})[f"{threads}t"] = detail


def peers(threads: int, work: Path, out: Figures) -> None:
    """Our step over torchdistill's on each pair, a short training of each in turn."""
    if not PEERS.exists():
        print("torchdistill is not installed: no ratio over it (`make peers` installs it)")
        return
    for pair in PAIRS:
        bench = Bench(work / f"peers-{pair}-{threads}", [*NOISE, *PAIRS[pair], f"batch_size={BATCH}"], epochs=2)
        nets = json.dumps({role: bench.cfg[role]["net"] for role in ("teacher", "student")})
        command = [str(PEERS), str(ROOT / "scripts" / "benchmark_peers.py"), nets, str(threads)]
        seconds: dict[str, list[float]] = defaultdict(list)
        for _ in range(PEER_ROUNDS):
            done = subprocess.run(command, capture_output=True, text=True, env=quiet(threads))
            if done.returncode:
                print(f"torchdistill failed on {pair}: {done.stderr.strip().splitlines()[-1:]}")
                return
            for stage, theirs in json.loads(done.stdout.splitlines()[-1]).items():
                seconds[f"torchdistill_{stage}"] += theirs
                own = Steps()
                bench.trains(stage)(own)
                seconds[stage] += own.steps()
        for stage in ("hint", "kd"):
            ratio = median(seconds[stage]) / median(seconds[f"torchdistill_{stage}"])
            out["ratios"][f"{stage}_over_torchdistill/{pair}/{threads}t"] = ratio
        detail = {f"{name}_ms": ms(of) for name, of in seconds.items()}
        out["details"].setdefault("peers", {})[f"{pair}/{threads}t"] = detail


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
    by_jobs = {len(TEMPERATURES): median(swept)}
    for jobs in (1, 3):
        chosen = ",".join(map(str, TEMPERATURES[:jobs]))
        command = [sys.executable, "run.py", *(["-m"] * (jobs > 1)), *words, f"temperature={chosen}"]
        by_jobs[jobs] = seconds_of([*command, f"runs_dir={work}/jobs{jobs}"], threads)
    found = {"sweep_seconds": swept, "parts_seconds": parts, "seconds_by_jobs": by_jobs, "config": words}
    out["details"]["sweep"] = found


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
    for images in (1_000, 10_000, 50_000):  # the same updates from more 8x8 images
        few = [*NOISE, "+dataset.size=8", f"+dataset.train={images}", "updates_per_epoch=10"]
        table[f"thin_deep, {images:,} images"] = step_ms(work / f"images{images}", few)
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
import resource, runpy, sys
sys.argv[0] = "run.py"
try:
    runpy.run_path("run.py", run_name="__main__")
except SystemExit:
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def step_ms(folder: Path, overrides: Sequence[str]) -> float:
    steps = Steps()
    Bench(folder, overrides, epochs=3).trains("kd")(steps)
    return ms(steps.steps())


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
        written(out, given.json)  # what is measured is kept if a later part fails

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for threads in given.threads:
            torch.set_num_threads(threads)
            if "steps" in given.only:
                for pair in PAIRS:
                    measured(f"steps of {pair}, {threads} threads", steps, pair, threads, work, out)
            if "epochs" in given.only:
                measured(f"epochs, {threads} threads", epochs, threads, work, out)
            if "curriculum" in given.only:
                measured(f"a curriculum, {threads} threads", curriculum, threads, work, out)
            if "peers" in given.only:
                measured(f"peers, {threads} threads", peers, threads, work, out)
        if "sweep" in given.only:
            measured("a sweep", sweep, work, out)
        if "cli" in given.only:
            measured("command line", cli, out)
        if "growth" in given.only:
            measured("growth", growth, work, out)
    out["details"]["seconds"] = round(time.perf_counter() - started)
    written(out, given.json)
    show(out)
    return 0


def written(out: Figures, file: Path | None) -> None:
    out["ratios"] = {name: round(value, 4) for name, value in out["ratios"].items()}
    if file:
        file.write_text(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
