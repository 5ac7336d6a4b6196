"""What a step costs: this framework beside plain loops and beside peers, as ratios (small is good).

python scripts/benchmark.py --json FILE            everything, at 1 and 2 threads (about 10 minutes on 2 cores)
python scripts/benchmark.py --only steps --threads 1

Whatever is compared takes turns (`benchmark_turns.py`), by the step where steps are long, and medians are taken.
Trainings go through `fitnets.train.train`, which is what `python run.py` calls, with the progress display and the
recorder (`benchmark_work.py`). Images are random: speed does not see them. `make peers` installs the peers in an
environment of their own; one that is missing has no ratio.
"""

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as run.py has it
import torch
from benchmark_turns import ROOT, Steps, Work, in_turns, ms, quiet
from benchmark_work import NOISE, Bench, Waiting, composed, guided_alone, kd_loop
from rich.console import Console
from rich.table import Table

from fitnets.data.curriculum import GrowingPool
from fitnets.provenance import hardware, versions
from fitnets.runs import folder_of, plan
from fitnets.train import train

PEERS = ROOT / ".venv-peers" / "bin" / "python"
EPOCHS = 5  # of STEPS each
WHOLE_EPOCHS = 7  # of STEPS each, where whole epochs are compared
SHORT_EPOCHS = 10  # where steps take milliseconds
BATCH = 128
STEPS = 4  # an epoch of the 32x32 pairs
PAIRS = {
    "resnet56-resnet20": ["teacher=resnet56", "student=resnet20", "hint=middle"],  # middle: layer2 in both
    "maxout_cifar-fitnet1": ["teacher=maxout_cifar", "student=fitnet1", "hint=middle"],
}
ROUNDS = 1  # of whole commands
TURN = 3  # epochs, there
SHORT_ROUNDS = 3  # of processes, where steps take milliseconds: how memory happens to lie is 2 % of such a step
SHORTER = ["epochs.teacher=6", "epochs.hint=6", "epochs.kd=16"]  # than the config's own; a sweep's own cost is fixed
TEMPERATURES = (1, 2, 4, 8, 16)
MUST = {  # the largest that each ratio may be
    **dict.fromkeys(("kd_over_backprop", "hint_over_guided"), 1.08),
    **dict.fromkeys(("framework_over_loop", "sweep_over_parts"), 1.05),
    **dict.fromkeys(("kd_over_torchdistill", "hint_over_torchdistill"), 0.5),
    "loader_share": 0.03,
    "curriculum_over_plain": 1.02,
}
HELP_CPU_SECONDS = 1.2
PARTS = ("steps", "epochs", "curriculum", "sweep", "cli", "growth")
Figures = dict[str, Any]


def on_noise(pair: str) -> list[str]:
    """The words for a pair of networks on random images."""
    return [*NOISE, f"+dataset.train={STEPS * BATCH}", *PAIRS[pair], f"batch_size={BATCH}"]


def steps(pair: str, threads: int, work: Path, out: Figures) -> None:
    """KD over backprop, hint over its guided half alone, both over the peer's, and time waiting for data."""
    bench = Bench(work / pair, on_noise(pair), EPOCHS)
    filled = (bench.folder / ".answers").exists()  # at another number of threads
    jobs: dict[str, Work] = {stage: partial(bench.timed, stage) for stage in ("backprop", "hint")}
    jobs["kd"] = partial(bench.timed, "kd", how=Waiting)
    jobs["guided_alone"] = partial(guided_alone, bench, EPOCHS)
    if PEERS.exists():
        nets = json.dumps({role: bench.cfg[role]["net"] for role in ("teacher", "student")})
        script = [str(PEERS), str(ROOT / "scripts" / "benchmark_peers.py")]
        jobs |= {f"torchdistill_{stage}": [*script, stage, nets, str(threads)] for stage in ("hint", "kd")}
    else:
        print("torchdistill is not installed: no ratio over it (`make peers` installs it)")
    turns = in_turns(jobs, threads)
    times = {name: of.steps for name, of in turns.items()}
    name = f"{pair}/{threads}t"
    detail = {f"{what}_ms": ms(seconds) for what, seconds in times.items()} | {"steps": len(times["kd"])}
    ratios = {"kd_over_backprop": ("kd", "backprop"), "hint_over_guided": ("hint", "guided_alone")}
    ratios |= {f"{stage}_over_torchdistill": (stage, f"torchdistill_{stage}") for stage in ("hint", "kd")}
    found = {ratio: median(times[a]) / median(times[b]) for ratio, (a, b) in ratios.items() if b in times}
    found["loader_share"] = median(turns["kd"].waits) / median(times["kd"])
    detail["wait_ms"] = ms(turns["kd"].waits)
    out["ratios"] |= {f"{ratio}/{name}": value for ratio, value in found.items()}
    if not filled:
        detail |= with_filling(bench.folder / ".answers", detail, found)
    out["details"].setdefault("steps", {})[name] = detail


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


def epochs(name: str, overrides: Sequence[str], short: bool, threads: int, work: Path, out: Figures) -> None:
    """A KD epoch through the framework, validation and callbacks included, over a loop written by hand.

    The framework also keeps an update's memory (fitnets/memory.py): where steps are `short`, a loop that does so too is
    in `details`.
    """
    count = SHORT_EPOCHS if short else WHOLE_EPOCHS
    bench = Bench(work / name, overrides, count)
    jobs: dict[str, Work] = {"framework": partial(bench.timed, "kd"), "loop": partial(kd_loop, bench, count, False)}
    if short:
        jobs["loop_keeping_memory"] = partial(kd_loop, bench, count, True)
    times = in_turns(jobs, threads, turn=TURN, rounds=SHORT_ROUNDS if short else 1)
    epoch = {which: of.epoch for which, of in times.items()}
    out["ratios"][f"framework_over_loop/{name}/{threads}t"] = epoch["framework"] / epoch["loop"]
    detail = {f"{which}_epoch_ms": ms([seconds]) for which, seconds in epoch.items()}
    detail |= {f"{which}_step_ms": ms(of.steps) for which, of in times.items()} | {"steps": len(times["loop"].steps)}
    if short:
        detail["over_loop_keeping_memory"] = round(epoch["framework"] / epoch["loop_keeping_memory"], 4)
    out["details"].setdefault("epochs", {})[f"{name}/{threads}t"] = detail


def curriculum(threads: int, work: Path, out: Figures) -> None:
    """A KD epoch on digits with a growing pool over one with plain shuffles; and what a pool of 50,000 samples costs.

    The whole epoch, as batches are drawn some at a time and figures come at its end. At the first number of threads:
    ordering samples uses one. `plain_again_over_plain` in `details` says how far two equal trainings are apart.
    """
    words = {"plain": [], "curriculum": ["curriculum=easy_to_hard", "curriculum.pacing.full_at=1"]}
    benches = {name: Bench(work / name, of, SHORT_EPOCHS) for name, of in words.items()}
    jobs: dict[str, Work] = {name: partial(bench.timed, "kd") for name, bench in benches.items()}
    jobs["plain_again"] = partial(Bench(work / "plain_again", [], SHORT_EPOCHS).timed, "kd")
    jobs["waiting"] = partial(Bench(work / "waiting", [], SHORT_EPOCHS).timed, "kd", how=Waiting)
    times = in_turns(jobs, threads, turn=TURN, rounds=SHORT_ROUNDS)
    grown, plain, again = (times[name] for name in ("curriculum", "plain", "plain_again"))
    over = grown.epoch / mean([plain.epoch, again.epoch])
    out["ratios"][f"curriculum_over_plain/digits-thin_deep/{threads}t"] = over
    waits = times["waiting"].waits
    out["ratios"][f"loader_share/digits-thin_deep/{threads}t"] = median(waits) / median(plain.steps)
    detail = {f"{name}_step_ms": ms(of.steps) for name, of in times.items()} | {"wait_ms": ms(waits)}
    detail["plain_again_over_plain"] = round(again.epoch / plain.epoch, 4)
    pool = GrowingPool(torch.randperm(50_000), BATCH, 1000, 0, lambda index, t: index, lambda t: t / 1000)
    started = time.perf_counter()
    for _ in pool:
        pass
    detail["a_batch_of_50000_samples_ms"] = round(1000 * (time.perf_counter() - started) / len(pool), 3)
    out["details"].setdefault("curriculum", {})[f"{threads}t"] = detail


def sweep(epochs: Sequence[str], work: Path, out: Figures, threads: int = 1) -> None:
    """`run.py -m` over five temperatures, over one teacher, one hint and five KD trainings in one bare process."""
    words = [*epochs, "stage=fitnet", "trainer=cpu", f"trainer.threads={threads}"]
    swept, parts = [], []
    for number in range(ROUNDS):
        runs = work / f"swept{number}"
        command = [sys.executable, "run.py", "-m", *words, f"temperature={','.join(map(str, TEMPERATURES))}"]
        swept.append(seconds_of([*command, f"runs_dir={runs}"], threads))
        given = json.dumps([*words, f"runs_dir={work}/parts{number}"])
        parts.append(seconds_of([sys.executable, __file__, "--seven-parts", given], threads))
    out["ratios"]["sweep_over_parts"] = median(swept) / median(parts)
    by_jobs = {len(TEMPERATURES): median(swept)}
    command = [sys.executable, "run.py", *words, f"temperature={TEMPERATURES[0]}", f"runs_dir={work}/one"]
    by_jobs[1] = seconds_of(command, threads)
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
    """How a step's time grows with batch, depth and images (one thread, ms), and each stage's peak of memory."""
    torch.set_num_threads(1)
    table: Figures = {}
    for student in ("thin_relu", "thin_deep", "thin_deeper"):
        table[f"{student}, batch 64"] = step_ms(work / student, [f"student={student}"])
    table["thin_deep, batch 256"] = step_ms(work / "batch256", ["batch_size=256"])
    few = [*NOISE, "+dataset.size=8", "+dataset.train=50000", "updates_per_epoch=10"]
    table["thin_deep, batch 64, 50,000 images"] = step_ms(work / "images", few)
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
import runpy, sys
sys.argv[0] = "run.py"
try:
    runpy.run_path("run.py", run_name="__main__")
except SystemExit:
    pass
status = open("/proc/self/status").read()  # ru_maxrss would be the starting process's where that was larger
print(status.split("VmHWM:")[1].split()[0])
"""


def step_ms(folder: Path, overrides: Sequence[str]) -> float:
    steps = Steps()
    Bench(folder, overrides, epochs=3).timed("kd", steps)
    return ms([seconds for epoch in steps.warm() for seconds in epoch[:-1]])


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
    parser.add_argument(
        "--default-epochs", action="store_true", help="the sweep with the config's own (2 minutes more)"
    )
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
                pair = next(iter(PAIRS))
                for name, words, short in (("digits-thin_deep", [], True), (pair, on_noise(pair), False)):
                    measured(f"epochs of {name}, {threads} threads", epochs, name, words, short, threads, work, out)
            if "curriculum" in given.only and threads == given.threads[0]:
                measured(f"a curriculum, {threads} threads", curriculum, threads, work, out)
        if "sweep" in given.only:
            measured("a sweep", sweep, [] if given.default_epochs else SHORTER, work, out)
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
